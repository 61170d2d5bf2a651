// What the page does better with JavaScript: the selection becomes the mention, pictures are dropped, pasted and shown,
// and the answer comes without a new page. All of it is filled in by the server, once, in page.html.
"use strict";
const by = (id) => document.getElementById(id);
const form = by("ask"), text = by("text"), mention = by("mention"), start = by("start"), end = by("end"), image = by("image");
const status = by("status"), link = by("link");
for (const hint of document.querySelectorAll(".scripted")) hint.hidden = false;

// characters as the server counts them: a letter beyond U+FFFF is one
const characters = (until) => Array.from(text.value.slice(0, until)).length;

function selected() {
  const from = text.value.slice(text.selectionStart, text.selectionEnd), found = from.trim();
  if (!found) return;
  const begin = text.selectionStart + from.indexOf(found);
  mention.value = found.replaceAll("\n", " ");
  start.value = characters(begin);
  end.value = characters(begin + found.length);
  status.textContent = `Mention: ${found}`;
}
for (const kind of ["mouseup", "keyup", "touchend", "select"]) text.addEventListener(kind, selected);
for (const field of [text, mention]) field.addEventListener("input", () => { start.value = end.value = ""; });

async function preview() {
  const file = image.files[0];
  by("preview").hidden = !file;
  if (!file) return;
  by("picture-name").textContent = file.name;
  const canvas = by("thumbnail");
  canvas.hidden = true;
  try {
    const bitmap = await createImageBitmap(file), scale = Math.min(1, 256 / Math.max(bitmap.width, bitmap.height));
    if (file !== image.files[0]) return;
    canvas.width = Math.max(1, bitmap.width * scale);
    canvas.height = Math.max(1, bitmap.height * scale);
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    canvas.hidden = false;
  } catch {
    by("picture-name").textContent = `${file.name} (this browser cannot show it)`;
  }
  status.textContent = `Picture: ${file.name}`;
}
function take(files) {
  const file = Array.from(files).find((one) => one.type.startsWith("image/")) ?? files[0];
  if (!file) return false;
  const holder = new DataTransfer();
  holder.items.add(file);
  image.files = holder.files;
  preview();
  return true;
}
image.addEventListener("change", preview);
by("remove").addEventListener("click", () => { image.value = ""; preview(); image.focus(); status.textContent = "Picture removed"; });
document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length && take(event.clipboardData.files)) event.preventDefault(); });
const drop = by("drop");
document.addEventListener("dragover", (event) => { if (event.dataTransfer?.types.includes("Files")) { event.preventDefault(); drop.classList.add("over"); } });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => { if (event.dataTransfer?.files.length) { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files); } });

let asking = null;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  asking?.abort();
  const mine = asking = new AbortController(), data = new FormData(form);
  if (event.submitter?.name) data.set(event.submitter.name, event.submitter.value);
  link.setAttribute("aria-disabled", "true");
  status.textContent = "Linking …";
  try {
    const reply = await fetch("/", { method: "POST", body: data, signal: mine.signal });
    show(await reply.text(), reply);
  } catch (error) {
    if (error.name !== "AbortError") status.textContent = "Error: the server does not answer";
  } finally {
    if (asking === mine) link.removeAttribute("aria-disabled");
  }
});

function show(html, reply) {
  if (!reply.headers.get("content-type")?.startsWith("text/html")) {
    status.textContent = `Error ${reply.status}: the request was refused`;
    return;
  }
  const page = new DOMParser().parseFromString(html, "text/html");
  const places = page.getElementById("places");
  by("places")?.remove();
  if (places) form.append(document.adoptNode(places));
  by("answer").replaceChildren(...page.getElementById("answer").childNodes);
  document.title = page.title;
  status.textContent = by("answer-title").textContent;
  if (places) places.querySelector("button").focus();
  else by("answer").focus();
}
preview();
