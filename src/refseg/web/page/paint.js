// Masks over an image: tinted, outlined, each in a colour of its own.

import { maskOf } from "./rle.js";

// Told apart by people who see fewer colours, too (after Okabe and Ito), brighter for photos.
const COLOURS = [[255, 176, 0], [64, 170, 255], [0, 214, 143], [255, 96, 32], [240, 112, 200], [250, 235, 60], [150, 130, 255]];
const TINT = 0.35;

export const colourOf = (number) => COLOURS[number % COLOURS.length];
export const cssOf = (number) => `rgb(${colourOf(number).join(" ")})`;

/** Whether a pixel of a mask lies within `thick` pixels of its border. */
function isEdge(mask, width, height, x, y, thick) {
  if (x < thick || y < thick || x >= width - thick || y >= height - thick) return true;
  const at = y * width + x;
  return !(mask[at - thick] && mask[at + thick] && mask[at - thick * width] && mask[at + thick * width]);
}

/** Draws the image and the masks that are shown into a canvas of the image's own size. */
export function paint(canvas, image, answers, shown) {
  const [height, width] = answers[0].segmentation.size;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const picture = context.getImageData(0, 0, width, height);
  const pixels = picture.data;
  const thick = Math.max(1, Math.round(Math.min(width, height) / 160));
  answers.forEach((answer, number) => {
    if (!shown[number] || !answer.found) return;
    const mask = maskOf(answer.segmentation);
    const colour = colourOf(number);
    const [left, top, wide, high] = answer.bbox;
    for (let y = top; y < top + high; y++) {
      for (let x = left; x < left + wide; x++) {
        if (!mask[y * width + x]) continue;
        const share = isEdge(mask, width, height, x, y, thick) ? 1 : TINT;
        const at = 4 * (y * width + x);
        for (let c = 0; c < 3; c++) pixels[at + c] = Math.round((1 - share) * pixels[at + c] + share * colour[c]);
      }
    }
  });
  context.putImageData(picture, 0, 0);
}

/** A mask as a picture of black and white, of the image's own size. */
export function maskPicture(answer) {
  const [height, width] = answer.segmentation.size;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  maskOf(answer.segmentation).forEach((inside, at) => {
    picture.data.fill(inside ? 255 : 0, 4 * at, 4 * at + 3);
    picture.data[4 * at + 3] = 255;
  });
  context.putImageData(picture, 0, 0);
  return canvas;
}
