// The page of ClickTracker. What users typed only ever becomes text, never markup.
"use strict";

const byId = (id) => document.getElementById(id);
const session = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
const refreshEvery = 2000; // milliseconds

function say(element, text, kind = "") {
  element.textContent = text;
  element.className = `note ${kind}`;
}

function row(click) {
  const line = document.createElement("tr");
  const when = new Date(click.timestamp).toLocaleTimeString();
  for (const text of [when, click.user_id, click.url, click.element]) {
    const cell = line.insertCell();
    cell.textContent = text;
    cell.title = text;
  }
  return line;
}

async function refresh() {
  try {
    const response = await fetch("/clicks?limit=12");
    const body = await response.json();
    if (!response.ok) throw new Error(body.message || response.statusText);
    byId("total").textContent = body.total.toLocaleString();
    byId("users").textContent = body.users.toLocaleString();
    byId("urls").textContent = body.urls.toLocaleString();
    byId("recent").replaceChildren(...body.clicks.map(row));
    say(byId("state"), body.clicks.length ? "" : "No clicks yet: track the first one.");
  } catch (error) {
    say(byId("state"), `Cannot load the clicks: ${error.message}`, "bad");
  }
}

async function track(click) {
  try {
    const response = await fetch("/track", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ session_id: session, ...click }),
    });
    const body = await response.json();
    if (!response.ok) throw new Error(body.message || response.statusText);
    say(byId("said"), "Tracked.", "good");
  } catch (error) {
    say(byId("said"), `Not tracked: ${error.message}`, "bad");
  }
  await refresh();
}

byId("click").addEventListener("click", () =>
  track({ user_id: "visitor", url: location.pathname, element: "track-button" }),
);
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  track(Object.fromEntries(new FormData(event.target)));
});
refresh();
setInterval(refresh, refreshEvery);
