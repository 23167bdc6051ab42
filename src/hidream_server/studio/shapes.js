// Sizes as shapes to click: the documented ones, and a wide and a tall one that the model can paint.

/** Return {name, resolution, width, height} of what this server offers. */
export function shapes(limits) {
  const offered = limits.resolutions.map((resolution) => {
    const [width, height] = resolution.split("x").map(Number);
    return { resolution, width, height };
  });
  const wide = largest(limits, 16 / 9);
  const extra = [wide, { width: wide.height, height: wide.width }];
  return [...offered, ...extra.map((size) => ({ ...size, resolution: `${size.width}x${size.height}` }))]
    .map((size) => ({ ...size, name: nameOf(size, limits) }));
}

/** The largest size of about this ratio that the model can paint. */
function largest({ size_multiple: multiple, max_pixels: most }, ratio) {
  const whole = (pixels) => Math.max(1, Math.floor(pixels / multiple)) * multiple;
  const height = whole(Math.sqrt(most / ratio));
  return { width: whole(Math.min(most / height, height * ratio + multiple / 2)), height };
}

function nameOf({ width, height }, { max_pixels: most }) {
  if (width === height) return width * height * 3 < most ? "small" : "square";
  const ratio = width / height;
  if (ratio > 1) return ratio > 1.5 ? "wide" : "landscape";
  return ratio < 1 / 1.5 ? "tall" : "portrait";
}
