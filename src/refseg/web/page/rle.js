// COCO's compressed run-length code, as pycocotools writes it.

/** The lengths of the runs, background first, down the columns. */
export function runsOf(counts) {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const sign = counts.charCodeAt(at++) - 48;
      value += (sign & 31) * 2 ** shift;
      shift += 5;
      more = (sign & 32) !== 0;
      if (!more && sign & 16) value -= 2 ** shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** A mask as bytes of 0 and 1, row by row. */
export function maskOf({ size: [height, width], counts }) {
  const mask = new Uint8Array(height * width);
  let at = 0;
  let inside = false;
  for (const run of runsOf(counts)) {
    if (inside) {
      for (let end = at + run; at < end; at++) mask[(at % height) * width + Math.floor(at / height)] = 1;
    } else {
      at += run;
    }
    inside = !inside;
  }
  return mask;
}
