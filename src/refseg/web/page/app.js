// The page: what a person does, and what becomes of it.

import { Refused, explain, get, segment } from "./api.js";
import { cssOf, maskPicture, paint } from "./paint.js";

const $ = (id) => document.getElementById(id);
const state = { image: null, picture: null, taken: 0, asked: null, work: null, cards: [], sliding: null };

// --- the image ---------------------------------------------------------------------------------------------------

/** Takes an image file, and shows it; `name` is for downloads. */
async function takeImage(file, name) {
  const number = (state.taken += 1); // of two choices the later one counts, whichever is decoded first
  const url = URL.createObjectURL(file);
  const picture = new Image();
  picture.src = url;
  let sent = file;
  try {
    await picture.decode();
    if (!SENT_AS_THEY_ARE.includes(file.type)) sent = await asShown(picture);
  } catch {
    URL.revokeObjectURL(url);
    if (number === state.taken) fail(`${name}: this browser cannot show it; a PNG, JPEG, WebP, GIF or BMP file is accepted.`);
    return false;
  }
  if (number !== state.taken) {
    URL.revokeObjectURL(url);
    return false;
  }
  state.image = { file: sent, name: name.replace(/\.[^.]*$/, "") || "image" };
  state.picture = picture;
  const preview = $("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = url;
  preview.alt = `The image: ${name}`;
  preview.hidden = false;
  $("drop-text").textContent = `${name}, ${picture.naturalWidth} x ${picture.naturalHeight} pixels`;
  clearError();
  return true;
}

// Of these, browser and server agree how an EXIF orientation turns them; others are sent as this browser shows them.
const SENT_AS_THEY_ARE = ["image/jpeg", "image/png"];

/** A picture as PNG, just as it is shown. */
function asShown(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png");
  });
}

function press(chosen) {
  for (const button of $("examples").children) button.setAttribute("aria-pressed", String(button === chosen));
}

async function showExamples() {
  const { examples } = await get("/v1/examples");
  examples.forEach(({ name, image, expressions }, number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `Example ${number + 1}: ${expressions[0]}`);
    const small = document.createElement("img");
    small.src = image;
    small.alt = "";
    button.append(small);
    button.addEventListener("click", async () => {
      try {
        const response = await fetch(image);
        if (!response.ok) throw new Refused(response.status, "the example is not there");
        if (!(await takeImage(await response.blob(), `${name}.png`))) return;
        $("expressions").value = expressions.join("\n");
        grow();
        press(button);
      } catch (error) {
        fail(told(error));
      }
    });
    $("examples").append(button);
  });
}

function takeFile(file) {
  press(null);
  return takeImage(file, file.name || "pasted image");
}

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) takeFile(file);
  event.target.value = ""; // the same file may be chosen again
});
$("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) takeFile(file);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files ?? [];
  if (file) takeFile(file);
});

// --- models ------------------------------------------------------------------------------------------------------

async function showModels() {
  const { models } = await get("/v1/models");
  for (const model of models) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.name = "model";
    box.value = model.name;
    box.checked = model.default;
    const text = document.createElement("span");
    const about = document.createElement("small");
    about.textContent = `${model.method}, trained on ${model.trained_on}`;
    text.append(`${model.name} `, document.createElement("br"), about);
    label.append(box, text);
    $("models").append(label);
  }
}

// --- asking ------------------------------------------------------------------------------------------------------

const told = (error) =>
  error instanceof Refused ? error.message : "The server does not answer. Is it still running?";

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

function clearError() {
  $("error").hidden = true;
}

function busy(working) {
  $("go").disabled = working;
  $("cancel").hidden = !working;
  $("progress").hidden = !working;
  $("results").setAttribute("aria-busy", String(working));
}

/** What a step of the work is called. */
function stepOf(model, step) {
  if (step.state === "waiting") return step.ahead ? `${model}: ${step.ahead} requests wait before this one` : `${model}: begins`;
  if (step.state === "loading") return `${model}: is loaded`;
  return `${model}: ${step.done} of ${step.of} expressions answered`;
}

async function ask(event) {
  event?.preventDefault();
  if (state.work) return;
  clearError();
  const expressions = $("expressions").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const models = [...document.querySelectorAll("input[name=model]:checked")].map((box) => box.value);
  if (!state.image) return fail("There is no image yet: drop one, choose a file or take an example.");
  if (!expressions.length) return fail("There is no expression yet: say what to find, as “the striped square”.");
  if (!models.length) return fail("No model is chosen: one or more are accepted.");
  const work = (state.work = new AbortController());
  state.sliding?.abort();
  state.sliding = null;
  const threshold = $("threshold").disabled ? 0.5 : Number($("threshold").value);
  const asked = { ...state.image, picture: state.picture, threshold };
  busy(true);
  const progress = $("progress");
  progress.max = models.length;
  const cards = [];
  const failures = [];
  for (const [number, model] of models.entries()) {
    progress.value = number;
    try {
      const answer = await segment({
        image: asked.file, expressions, model, threshold: asked.threshold, signal: work.signal,
        heard: (step) => {
          $("status").textContent = stepOf(model, step);
          if (step.state === "working") progress.value = number + step.done / step.of;
        },
      });
      const [height, width] = answer.size;
      const { naturalWidth, naturalHeight } = asked.picture;
      if (height !== naturalHeight || width !== naturalWidth) {
        failures.push(`${model}: saw ${width} x ${height} pixels where this browser shows ${naturalWidth} x ${naturalHeight}; its masks would lie elsewhere.`);
      } else {
        cards.push(answer);
      }
    } catch (error) {
      if (work.signal.aborted) break;
      if (error.status === 401) {
        failures.push((await askToken()) ? "The token was taken; ask again." : "This server wants a token.");
        break;
      }
      failures.push(`${model}: ${told(error)}`);
    }
  }
  state.work = null;
  busy(false);
  if (cards.length) {
    state.asked = asked;
    showCards(cards);
  }
  const some = cards.length === 1 ? "1 model answered" : `${cards.length} models answered`;
  $("status").textContent = work.signal.aborted ? `Cancelled; ${some}.` : `${some} about ${expressions.length} expression${expressions.length > 1 ? "s" : ""}.`;
  if (failures.length) fail(failures.join(" "));
  if (cards.length && matchMedia("(max-width: 56rem)").matches) $("results").scrollIntoView({ block: "start" });
}

/** Asks for a token and keeps it for this tab; false where none that could be one was given. */
function askToken() {
  const dialog = $("token-dialog");
  dialog.returnValue = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const token = $("token").value.trim();
      $("token").value = "";
      const taken = dialog.returnValue === "ok" && /^[!-~]+$/.test(token); // what a header can carry
      if (taken) sessionStorage.setItem("refseg-token", token);
      resolve(taken);
    }, { once: true });
    dialog.showModal();
  });
}

/** The field is as high as its lines. */
function grow() {
  $("expressions").rows = Math.min(12, Math.max(3, $("expressions").value.split("\n").length + 1));
}

$("ask").addEventListener("submit", ask);
$("expressions").addEventListener("input", grow);
$("cancel").addEventListener("click", () => state.work?.abort());
$("expressions").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask(event);
});

// --- answers -----------------------------------------------------------------------------------------------------

function showCards(answers) {
  state.cards = answers.map((answer) => ({ answer, shown: answer.answers.map(() => true) }));
  $("cards").replaceChildren(...state.cards.map(cardOf));
  const kept = answers.some(({ id }) => id);
  $("threshold-row").hidden = !answers.length;
  $("threshold").disabled = !kept;
  $("threshold").value = answers[0].threshold;
  $("threshold-value").textContent = answers[0].threshold.toFixed(2);
  $("threshold-help").textContent = kept
    ? "Probability above which a pixel is in a mask. No model is asked again."
    : "These answers have no probabilities to choose from.";
}

function cardOf(card) {
  const element = $("card").content.firstElementChild.cloneNode(true);
  const { answer } = card;
  card.element = element;
  element.dataset.model = answer.model;
  element.querySelector("h3").textContent = `${answer.model}, ${answer.seconds.toFixed(2)} s`;
  element.querySelector(".notes").replaceChildren(...answer.warnings.map((text) => {
    const note = document.createElement("li");
    note.textContent = text;
    return note;
  }));
  element.querySelector(".answers").replaceChildren(...answer.answers.map((_, number) => rowOf(card, number)));
  const downloads = element.querySelector(".downloads");
  const name = `${state.asked.name}.${answer.model.replace(/[^\w.-]+/g, "-")}`;
  button(downloads, "Overlay", () => saveCanvas(element.querySelector("canvas"), `${name}.overlay.png`));
  const several = answer.answers.length > 1;
  answer.answers.forEach((_, number) => {
    const label = several ? `Mask ${number + 1}` : "Mask";
    button(downloads, label, () => saveCanvas(maskPicture(card.answer.answers[number]), `${name}.${number + 1}.mask.png`));
  });
  button(downloads, "JSON", () => save(new Blob([JSON.stringify(card.answer, null, 1)], { type: "application/json" }), `${name}.json`));
  repaint(card);
  return element;
}

function rowOf(card, number) {
  const row = document.createElement("li");
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => {
    card.shown[number] = box.checked;
    repaint(card);
  });
  const colour = document.createElement("i");
  colour.style.background = cssOf(number);
  if (card.answer.answers.length > 7) colour.textContent = String(number + 1); // there are seven colours
  const text = document.createElement("span");
  text.textContent = card.answer.answers[number].expression;
  label.append(box, colour, text, document.createElement("small"));
  row.append(label);
  button(row, "Why?", () => showWhy(card.answer.model, card.answer.answers[number].expression));
  row.lastChild.setAttribute("aria-label", `Why this mask for: ${card.answer.answers[number].expression}`);
  return row;
}

/** Opens a figure of what every word changes, and of what the method shows of its way. */
async function showWhy(model, expression) {
  const dialog = $("why-dialog");
  const image = $("why");
  const asking = new AbortController();
  const asked = { image: state.asked.file, expression, model, signal: asking.signal };
  const name = `${state.asked.name}.${model.replace(/[^\w.-]+/g, "-")}.explain`;
  image.hidden = true;
  $("why-status").textContent = `${model} is asked without each word of “${expression}”, at the threshold 0.5 …`;
  $("why-downloads").replaceChildren();
  dialog.addEventListener("close", () => {
    asking.abort();
    if (image.src) URL.revokeObjectURL(image.src);
    image.removeAttribute("src");
  }, { once: true });
  dialog.showModal();
  try {
    const figure = await explain({ ...asked, kind: "image/png" });
    image.src = URL.createObjectURL(figure);
    image.alt = `What every word of “${expression}” changes for ${model}, and what its method shows of its way`;
    image.hidden = false;
    $("why-status").textContent = "";
    button($("why-downloads"), "PNG", () => save(figure, `${name}.png`));
    button($("why-downloads"), "SVG", async () => {
      try {
        save(await explain({ ...asked, kind: "image/svg+xml" }), `${name}.svg`);
      } catch (error) {
        $("why-status").textContent = told(error);
      }
    });
  } catch (error) {
    if (!asking.signal.aborted) $("why-status").textContent = told(error);
  }
}

/** Draws a card's masks anew, and says what they are. */
function repaint(card) {
  const { element, answer, shown } = card;
  const canvas = element.querySelector("canvas");
  paint(canvas, state.asked.picture, answer.answers, shown);
  const said = answer.answers.map(({ expression, found }) => `${expression}: ${found ? "found" : "nothing found"}`);
  canvas.setAttribute("aria-label", `Masks of ${answer.model}. ${said.join("; ")}`);
  [...element.querySelectorAll(".answers li")].forEach((row, number) => {
    const { found, score, area } = answer.answers[number];
    row.classList.toggle("nothing", !found);
    const sure = score === null ? "" : `score ${score.toFixed(2)}, `;
    row.querySelector("small").textContent = found ? `${sure}${area.toLocaleString("en")} pixels` : "nothing found: no pixel is above the threshold";
  });
}

$("threshold").addEventListener("input", () => {
  $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
  if (!state.sliding) slide(); // one at a time; the last place of the slider is what is asked in the end
});

async function slide() {
  const sliding = (state.sliding = new AbortController());
  for (let shown = null; shown !== $("threshold").value && !sliding.signal.aborted; ) {
    shown = $("threshold").value;
    await moveTo(Number(shown), sliding);
  }
  if (state.sliding === sliding) state.sliding = null;
}

/** Shows the masks at another threshold. */
async function moveTo(threshold, sliding) {
  for (const card of state.cards) {
    if (!card.answer.id) continue;
    try {
      const found = await get(`/v1/answers/${encodeURIComponent(card.answer.id)}?threshold=${threshold}`, sliding.signal);
      if (sliding.signal.aborted) return;
      const { seconds, warnings } = card.answer;
      card.answer = { ...found, seconds, warnings };
      repaint(card);
    } catch (error) {
      if (sliding.signal.aborted) return;
      fail(told(error));
      return;
    }
  }
}

// --- downloads ---------------------------------------------------------------------------------------------------

function button(parent, text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  parent.append(made);
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function saveCanvas(canvas, name) {
  canvas.toBlob((blob) => save(blob, name), "image/png");
}

// --- the beginning -----------------------------------------------------------------------------------------------

async function begin() {
  try {
    await showModels();
    await showExamples();
  } catch (error) {
    if (error.status !== 401) return fail(told(error));
    if (!(await askToken())) return fail("This server wants a token: letters, digits and signs. Load the page again to give one.");
    $("models").replaceChildren();
    return begin();
  }
}

begin();
