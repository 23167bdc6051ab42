// Reads how a picture was made out of a PNG that was made here. Knows the file format only.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** Return the text chunks of a PNG by their names; none for what is no PNG. */
export function pngTexts(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  const texts = {};
  if (!SIGNATURE.every((byte, at) => bytes[at] === byte)) return texts;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const size = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "iTXt") Object.assign(texts, international(bytes.subarray(at + 8, at + 8 + size)));
    at += size + 12;
  }
  return texts;
}

/** A chunk: name, 0, compressed or not, method, language, 0, translated name, 0, text. */
function international(data) {
  const name = data.indexOf(0);
  const language = data.indexOf(0, name + 3);
  const text = data.indexOf(0, language + 1) + 1;
  const decoded = new TextDecoder().decode(data.subarray(text));
  // Ours are not compressed.
  return data[name + 1] === 0 && text > 0 ? { [new TextDecoder().decode(data.subarray(0, name))]: decoded } : {};
}

/** Return the settings in a PNG's texts; null if it does not say them. */
export function settingsIn(texts) {
  const numbers = ["seed", "num_inference_steps", "guidance_scale"];
  const isThere = ["prompt", "resolution", ...numbers].every((name) => texts[name]?.trim());
  return isThere && numbers.every((name) => Number.isFinite(Number(texts[name]))) ? texts : null;
}
