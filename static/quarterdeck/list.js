// Nobody asks for what is new behind a hidden tab.
"use strict";
document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.target.matches?.("[data-slow]")) event.preventDefault();
});
