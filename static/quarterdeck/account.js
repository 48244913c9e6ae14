// Offers the browser's own time zone.
"use strict";
(() => {
    const select = document.querySelector("select[name=time_zone]");
    const guess = document.querySelector("[data-guess]");
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (!select || !guess || !zone || select.value === zone) return;
    if (![...select.options].some((option) => option.value === zone)) return;
    const use = guess.querySelector("[data-use]");
    use.textContent = zone;
    use.addEventListener("click", () => {
        select.value = zone;
        guess.hidden = true;
    });
    guess.hidden = false;
})();
