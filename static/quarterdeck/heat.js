// On a narrow screen the day's map is wider than what is seen of it: it begins at the window that runs.
"use strict";
(() => {
    const map = () => document.querySelector(".scroll:has(> .heat)");
    // Where somebody looked, while the map is drawn anew.
    let left = null;

    const begin = () => {
        const scroll = map();
        const frame = scroll?.querySelector(".heat-frame");
        if (!frame) return;
        const seen = scroll.getBoundingClientRect();
        const now = frame.getBoundingClientRect();
        scroll.scrollLeft += now.left + now.width / 2 - (seen.left + seen.width / 2);
    };
    begin();
    document.addEventListener("htmx:beforeSwap", (event) => {
        if (event.detail.target?.id === "ahead") left = map()?.scrollLeft ?? null;
    });
    document.addEventListener("htmx:afterSettle", (event) => {
        if (event.detail.target?.id !== "ahead" || left === null) return;
        if (map()) map().scrollLeft = left;
        left = null;
    });
})();
