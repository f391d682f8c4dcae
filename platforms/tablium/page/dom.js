// Elements and notices. Whatever somebody wrote becomes a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (`onclick`) and children; `null` and `false` are left out. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A drawing of the page's own set, such as `piece-king`. */
export function drawing(name, className) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", name === "mark" ? "0 0 32 32" : "0 0 54 54");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

/** Puts these in the place of all that an element had. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter(Boolean));
  return element;
}

const TOASTS_MAX = 4;
const TOAST_MS = 6000;

/** Tells something for a few seconds. */
export function toast(text, { title, kind = "plain" } = {}) {
  const toasts = document.getElementById("toasts");
  const shown = h("div", { class: `toast ${kind}` }, title && h("strong", {}, title), h("span", {}, text));
  toasts.append(shown);
  while (toasts.children.length > TOASTS_MAX) toasts.firstChild.remove();
  setTimeout(() => shown.remove(), TOAST_MS);
}

/** Asks before something that can't be undone; gives whether it was confirmed. */
export function confirmed(question, { yes, no = "Cancel" }) {
  return new Promise((answer) => {
    const dialog = h(
      "dialog",
      { class: "dialog", onclose: () => { answer(dialog.returnValue === "yes"); dialog.remove(); } },
      h("form", { method: "dialog" },
        h("p", {}, question),
        h("div", { class: "row end" },
          h("button", { class: "button quiet", value: "no" }, no),
          h("button", { class: "button danger", value: "yes" }, yes))),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A letter on a ground whose colour follows from the name. */
export function avatar(name) {
  let hue = 0;
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  const face = h("span", { class: "avatar", "aria-hidden": "true" }, [...name][0]?.toUpperCase() ?? "?");
  face.style.setProperty("--hue", hue);
  return face;
}

/** `25`, with its currency. */
export function points(amount) {
  return amount ? `${amount.amount} ${amount.currency}` : "";
}
