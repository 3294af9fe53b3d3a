// The page of Dashboard: fetches /analytics, draws it, and refreshes itself.
"use strict";

const byId = (id) => document.getElementById(id);
const refreshEvery = 3000; // milliseconds
const style = getComputedStyle(document.documentElement);
const accent = style.getPropertyValue("--accent").trim();
Chart.defaults.color = style.getPropertyValue("--soft").trim();
Chart.defaults.borderColor = style.getPropertyValue("--line").trim();
Chart.defaults.animation = false;

function bars(id, horizontal) {
  const whole = { beginAtZero: true, ticks: { precision: 0 } };
  return new Chart(byId(id), {
    type: "bar",
    data: { labels: [], datasets: [{ label: "Clicks", data: [], backgroundColor: accent, borderRadius: 4, maxBarThickness: 36 }] },
    options: {
      indexAxis: horizontal ? "y" : "x",
      maintainAspectRatio: false,
      plugins: { legend: { display: false } },
      scales: horizontal
        ? { x: whole, y: { grid: { display: false } } }
        : { y: whole, x: { grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 24 } } },
    },
  });
}

const overTime = bars("over-time", false);
const topUrls = bars("top-urls", true);

function draw(chart, labels, values) {
  chart.data.labels = labels;
  chart.data.datasets[0].data = values;
  chart.update();
}

const widths = { minute: 60e3, hour: 3600e3, day: 86400e3 }; // milliseconds

// MongoDB reports the bars that have clicks; the others are zero, not left out.
function everyBar(report) {
  const width = widths[report.unit];
  const counted = new Map(report.clicks_over_time.map((bar) => [Date.parse(bar.at), bar.clicks]));
  const first = Math.floor(Date.parse(report.since) / width) * width;
  const all = [];
  for (let at = first; at <= Date.parse(report.until); at += width) {
    all.push({ at, clicks: counted.get(at) ?? 0 });
  }
  return all;
}

function label(at, unit) {
  const time = new Date(at);
  return unit === "day"
    ? time.toLocaleDateString([], { month: "short", day: "numeric", timeZone: "UTC" })
    : time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

function shorten(text) {
  return text.length > 28 ? `${text.slice(0, 27)}…` : text;
}

async function refresh() {
  try {
    const response = await fetch(`/analytics?hours=${encodeURIComponent(byId("hours").value)}`);
    const report = await response.json();
    if (!response.ok) throw new Error(report.message || response.statusText);
    byId("total").textContent = report.total_clicks.toLocaleString();
    byId("users").textContent = report.unique_users.toLocaleString();
    byId("sessions").textContent = report.unique_sessions.toLocaleString();
    const time = everyBar(report);
    draw(
      overTime,
      time.map((bar) => label(bar.at, report.unit)),
      time.map((bar) => bar.clicks),
    );
    draw(
      topUrls,
      report.top_urls.map((bar) => shorten(bar.url)),
      report.top_urls.map((bar) => bar.clicks),
    );
    byId("top-users").replaceChildren(
      ...report.top_users.map((user) => {
        const line = document.createElement("tr");
        line.insertCell().textContent = user.user_id;
        const count = line.insertCell();
        count.textContent = user.clicks.toLocaleString();
        count.className = "number";
        return line;
      }),
    );
    byId("state").textContent = `As of ${new Date(report.until).toLocaleTimeString()}`;
  } catch (error) {
    byId("state").textContent = `Cannot load the analytics: ${error.message}`;
  }
}

byId("hours").addEventListener("change", refresh);
refresh();
setInterval(refresh, refreshEvery);
