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
      scales: horizontal ? { x: whole } : { y: whole },
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

function label(at, unit) {
  const time = new Date(at);
  return unit === "day"
    ? time.toLocaleDateString()
    : time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

async function refresh() {
  try {
    const response = await fetch(`/analytics?hours=${encodeURIComponent(byId("hours").value)}`);
    const report = await response.json();
    if (!response.ok) throw new Error(report.message || response.statusText);
    byId("total").textContent = report.total_clicks.toLocaleString();
    byId("users").textContent = report.unique_users.toLocaleString();
    byId("sessions").textContent = report.unique_sessions.toLocaleString();
    draw(
      overTime,
      report.clicks_over_time.map((bar) => label(bar.at, report.unit)),
      report.clicks_over_time.map((bar) => bar.clicks),
    );
    draw(
      topUrls,
      report.top_urls.map((bar) => bar.url),
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
