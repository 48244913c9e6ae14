// The button, the number to be typed and what is sent follow the ticks: one number for all of them.
"use strict";
(() => {
    const form = document.querySelector("[data-retry]");
    if (!form) return;
    const all = Number(form.dataset.retry);
    const write = (number) => number.toLocaleString("en-US");

    const follow = () => {
        // Those of other pages stand in hidden fields.
        const leftOut = form.querySelectorAll("[name=left_out]:checked, [name=left_out][type=hidden]");
        const number = all - leftOut.length;
        form.elements.number.value = String(number);
        form.querySelector("[data-retry-button]").textContent = `Retry ${write(number)}`;
        const label = form.querySelector("label[for=id_count]");
        if (label) label.textContent = `To confirm, type ${write(number)}`;
        form.querySelector("[data-retry-button]").disabled = form.hasAttribute("data-may-not") || number === 0;
    };
    form.addEventListener("change", follow);
    // Back from the browser's cache its ticks are still there.
    window.addEventListener("pageshow", follow);
})();
