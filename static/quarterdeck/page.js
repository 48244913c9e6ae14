// What every page does with JavaScript; without it nothing is missing but comfort.
"use strict";
document.documentElement.classList.add("js");

document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        const field = document.querySelector("[data-find]");
        if (field) {
            event.preventDefault();
            field.focus();
            field.select();
        }
    }
    if (event.key === "Escape") {
        document.querySelectorAll("[data-menu][open]").forEach((menu) => {
            menu.open = false;
            menu.querySelector("summary").focus();
        });
    }
});

// A menu closes when something else is meant.
document.addEventListener("click", (event) => {
    document.querySelectorAll("[data-menu][open]").forEach((menu) => {
        if (!menu.contains(event.target)) menu.open = false;
    });
});

// A double click is not two acts.
document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent) {
        event.preventDefault();
        return;
    }
    form.dataset.sent = "1";
    // Signing in anew, in another tab, makes a new token: the page's own would be refused.
    const token = document.cookie.split("; ").find((part) => part.startsWith("quarterdeck_csrf="));
    const field = form.elements.csrfmiddlewaretoken;
    if (token && field) field.value = token.split("=")[1];
});
// Back from the browser's cache: the form may be sent again.
window.addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});
