// Builds elements. Text only ever becomes text: there is no way to hand in markup.

const SVG = 'http://www.w3.org/2000/svg';

function apply(node, props, html) {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) { continue; }
    if (key.startsWith('on')) { node.addEventListener(key.slice(2), value); }
    else if (key === 'class') { node.setAttribute('class', value); }
    else if (key === 'data') { Object.assign(node.dataset, value); }
    else if (html && key === 'value') { node.value = value; }
    else if (html && key === 'checked') { node.checked = value; }
    else { node.setAttribute(key, value === true ? '' : String(value)); }
  }
}

function fill(node, children) {
  for (const child of children.flat(4)) {
    if (child === undefined || child === null || child === false || child === '') { continue; }
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** An HTML element: `h('p', { class: 'quiet' }, 'text', child)`. Properties are optional. */
export function h(tag, props, ...children) {
  const plain = props !== null && typeof props === 'object' && !(props instanceof Node) && !Array.isArray(props);
  const node = document.createElement(tag);
  if (plain) { apply(node, props, true); return fill(node, children); }
  return fill(node, [props, ...children]);
}

/** An SVG element. */
export function s(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  apply(node, props || {}, false);
  return fill(node, children);
}

/** Exchanges what is in `node`. Focus on an element with an id, or a data-key, stays where it was, and what has a data-key stays scrolled. */
export function put(node, ...children) {
  const active = document.activeElement;
  const kept = active && node.contains(active) ? active.id || active.dataset.key : null;
  const scrolled = [...node.querySelectorAll('[data-key]')].filter((e) => e.scrollLeft || e.scrollTop).map((e) => [e.dataset.key, e.scrollLeft, e.scrollTop]);
  node.replaceChildren();
  fill(node, children);
  if (kept) {
    const again = [...node.querySelectorAll('[id],[data-key]')].find((e) => e.id === kept || e.dataset.key === kept);
    if (again) { again.focus({ preventScroll: true }); }
  }
  for (const [key, left, top] of scrolled) {
    const again = [...node.querySelectorAll('[data-key]')].find((e) => e.dataset.key === key);
    if (again) { Object.assign(again, { scrollLeft: left, scrollTop: top }); }
  }
  return node;
}

/** Exchanges the text of `node`, only if it differs: screen readers hear of changes alone. */
export function say(node, text) {
  if (node.textContent !== text) { node.textContent = text; }
}

export const byId = (id) => document.getElementById(id);

const PATHS = {
  overview: 'M3 3h8v8H3zM13 3h8v5h-8zM13 10h8v11h-8zM3 13h8v8H3z',
  updates: 'M12 3v11m0 0 4-4m-4 4-4-4M4 17v3h16v-3',
  safety: 'M12 3 4 6v6c0 4.5 3.3 7.6 8 9 4.7-1.4 8-4.5 8-9V6z',
  upload: 'M12 15V4m0 0 4 4m-4-4L8 8M4 17v3h16v-3',
  history: 'M12 7v5l3 2M4 12a8 8 0 1 0 2.5-5.8M4 4v4h4',
  audit: 'M6 3h9l4 4v14H6zM9 12h7M9 16h7M9 8h3',
  system: 'M4 7h10M18 7h2M4 17h2M10 17h10M14 7a2 2 0 1 0 4 0a2 2 0 1 0-4 0M6 17a2 2 0 1 0 4 0a2 2 0 1 0-4 0',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6 6 18',
  theme: 'M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18',
  out: 'M10 4H5v16h5M14 8l4 4-4 4M18 12H9',
  chip: 'M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4',
};

/** A line drawing for decoration; the text beside it says the same. */
export function icon(name) {
  return s('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' }, s('path', { d: PATHS[name] }));
}
