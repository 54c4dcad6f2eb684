// Keeps the page fresh: fetches it again and swaps the parts marked data-live, but never one in which somebody types.
"use strict";

const PERIOD_MS = 3000;

function inUse(part) {
  if (part.contains(document.activeElement)) return true;
  return Array.from(part.querySelectorAll("input:not([type=hidden])")).some((field) => field.value !== "");
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) throw new Error(response.status);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
      if (next && !inUse(part) && next.innerHTML !== part.innerHTML) {
        part.hidden = next.hidden;
        part.innerHTML = next.innerHTML;
      }
    }
    document.title = fresh.title;
    document.body.classList.remove("offline");
  } catch {
    document.body.classList.add("offline"); // greyed: what stands there may be old
  }
}

setInterval(refresh, PERIOD_MS);
