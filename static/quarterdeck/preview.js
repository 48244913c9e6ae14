// The slider says its number at once; the bars follow from the server.
"use strict";
(() => {
    const slider = document.querySelector("[data-rpm]");
    const words = document.querySelector("[data-rpm-words]");
    if (!slider || !words) return;
    slider.addEventListener("input", () => {
        words.textContent = Number(slider.value).toLocaleString("en-US");
    });
})();
