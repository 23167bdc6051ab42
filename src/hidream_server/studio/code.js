// A request as code that does the same without this page.
import { address, key } from "./api.js";

const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
// A JSON object without true, false and null is one of Python's, too.
const json = (body, indent) => JSON.stringify(body, null, indent);

export function asCurl(body) {
  const lines = [`curl ${address("submit")}`, `-H 'Content-Type: application/json'`];
  if (key.value) lines.push(`-H "Authorization: Bearer $HIDREAM_API_KEY"`);
  return [...lines, `-d ${shell(json(body))}`].join(" \\\n  ");
}

export function asPython(body) {
  const headers = key.value
    ? `{"Authorization": "Bearer " + os.environ["HIDREAM_API_KEY"], "Content-Type": "application/json"}`
    : `{"Content-Type": "application/json"}`;
  return `import json${key.value ? ", os" : ""}
from urllib.request import Request, urlopen

SERVER = ${json(address("").replace(/\/$/, ""))}
HEADERS = ${headers}

def call(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    return urlopen(Request(SERVER + path, data, HEADERS)).read()

task = json.loads(call("/submit", ${json(body, 4)}))["task_id"]
status = "queued"
while status in ("queued", "processing"):
    status = json.loads(call(f"/status/{task}?wait=30"))["status"]
for index in range(${body.num_images_per_prompt ?? 1}):
    with open(f"picture-{index}.png", "wb") as file:
        file.write(call(f"/download/{task}?image_index={index}"))`;
}
