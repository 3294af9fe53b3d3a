// What somebody typed only ever becomes text, never markup.
"use strict";

const byId = (id) => document.getElementById(id);

async function ask(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Error(said.message || said.detail || response.statusText);
  }
  return response.status === 204 ? null : response.json();
}

function item(task) {
  const line = document.createElement("li");
  const label = line.appendChild(document.createElement("label"));
  const box = label.appendChild(document.createElement("input"));
  box.type = "checkbox";
  box.checked = task.done;
  box.addEventListener("change", () => act("PATCH", `tasks/${task._id}`, { done: box.checked }));
  label.appendChild(document.createElement("span")).textContent = task.text;
  const remove = line.appendChild(document.createElement("button"));
  remove.type = "button";
  remove.textContent = "×";
  remove.ariaLabel = `Remove ${task.text}`;
  remove.addEventListener("click", () => act("DELETE", `tasks/${task._id}`));
  return line;
}

async function act(...request) {
  try {
    if (request.length) await ask(...request);
    const tasks = await ask("GET", "tasks");
    const left = tasks.filter((task) => !task.done).length;
    byId("tasks").replaceChildren(...tasks.map(item));
    byId("left").textContent = tasks.length ? `${left} left` : "Nothing yet";
    byId("note").textContent = "";
    return true;
  } catch (error) {
    byId("note").textContent = `That did not work: ${error.message}`;
    return false;
  }
}

byId("new").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = event.target.elements.text;
  if (await act("POST", "tasks", { text: field.value })) field.value = "";
  field.focus();
});
act();
