// Lists: one tick for all rows, and nobody asks for what is new behind a hidden tab.
"use strict";
document.addEventListener("change", (event) => {
    if (!event.target.matches?.("[data-tick-all]")) return;
    for (const box of document.querySelectorAll('input[form="selected"]')) box.checked = event.target.checked;
});
document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.target.matches?.("[data-slow]")) event.preventDefault();
});
