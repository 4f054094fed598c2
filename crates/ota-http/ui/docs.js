// Renders /openapi.json. No library, no markup from the document.
'use strict';
const el = (tag, text, name) => { const e = document.createElement(tag); if (text) { e.textContent = text; } if (name) { e.className = name; } return e; };
const short = (ref) => ref.split('/').pop();

function kind(schema) {
  if (!schema) { return ''; }
  if (schema.$ref) { return short(schema.$ref); }
  const any = schema.oneOf || schema.anyOf || schema.allOf;
  if (any) { return any.map(kind).join(' | '); }
  if (schema.enum) { return schema.enum.map((v) => JSON.stringify(v)).join(' | '); }
  const types = [].concat(schema.type || 'any');
  return types.map((t) => (t === 'array' ? `${kind(schema.items)}[]` : schema.format ? `${t} (${schema.format})` : t)).join(' | ');
}

function table(rows) {
  const t = el('table');
  for (const cells of rows) { const tr = el('tr'); cells.forEach((c) => tr.append(el('td', c || ' '))); t.append(tr); }
  return t;
}

function operation(path, method, op) {
  const d = el('details'), s = el('summary');
  s.append(el('span', method.toUpperCase(), 'method'), el('code', path), el('span', ` – role ${op['x-role']}`));
  d.append(s, el('p', [op.summary, op.description].filter(Boolean).join('\n')));
  if (op.parameters) { d.append(el('h3', 'Parameters'), table(op.parameters.map((p) => [p.name, p.in, kind(p.schema), p.description]))); }
  if (op.requestBody) { d.append(el('h3', 'Body'), table(Object.entries(op.requestBody.content).map(([type, c]) => [type, kind(c.schema)]))); }
  d.append(el('h3', 'Answers'), table(Object.entries(op.responses).map(([code, r]) =>
    [code, Object.values(r.content || {}).map((c) => kind(c.schema)).join(', '), r.description])));
  return d;
}

async function render() {
  const answer = await fetch('/openapi.json');
  const doc = await answer.json();
  if (!answer.ok) { $about(doc.message); return; }
  $about(`${doc.info.title} ${doc.info.version}. ${doc.info.description}`);
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const [method, op] of Object.entries(item)) { document.getElementById('paths').append(operation(path, method, op)); }
  }
  for (const [name, schema] of Object.entries(doc.components.schemas)) {
    const d = el('details');
    d.append(el('summary', name), el('p', schema.description));
    const required = schema.required || [];
    const rows = Object.entries(schema.properties || {}).map(([field, s]) => [field, kind(s), required.includes(field) ? 'required' : '', s.description]);
    d.append(rows.length ? table(rows) : el('p', kind(schema)));
    document.getElementById('types').append(d);
  }
}
function $about(text) { document.getElementById('about').textContent = text; }
render().catch((error) => $about(error.message));
