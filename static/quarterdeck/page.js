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
    if (event.key === "?" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        document.querySelector("[data-help]")?.click();
    }
    if (event.key === "k" && (event.ctrlKey || event.metaKey) && openPalette()) event.preventDefault();
    if (event.key === "Escape") {
        document.querySelectorAll("[data-menu][open]").forEach((menu) => {
            menu.open = false;
            menu.querySelector("summary").focus();
        });
    }
});

// Ctrl K: the pages by their names, and an ID by its digits.
const openPalette = () => {
    const palette = document.querySelector("[data-palette]");
    if (!palette || palette.open) return false;
    const input = palette.querySelector("input");
    const list = palette.querySelector("ul");
    const links = [...document.querySelectorAll(".sections a[href], .help-link, .menu .items a[href]")];
    const pages = links.map((link) => [link.getAttribute("aria-label") || link.textContent.trim(), link.href]);
    let chosen = 0;
    let found = [];

    const choose = (index) => {
        chosen = Math.max(0, Math.min(index, found.length - 1));
        [...list.children].forEach((item, k) => item.setAttribute("aria-selected", String(k === chosen)));
        if (list.children[chosen]) input.setAttribute("aria-activedescendant", list.children[chosen].id);
    };
    const follow = () => {
        const text = input.value.trim().toLowerCase();
        found = pages.filter(([name]) => name.toLowerCase().includes(text));
        const search = document.querySelector(".find");
        if (/^\d+$/.test(text) && search) found.unshift([`ID ${text}`, `${search.action}?q=${text}`]);
        list.replaceChildren(...found.map(([name, href], k) => {
            const item = document.createElement("li");
            item.id = `palette-${k}`;
            item.setAttribute("role", "option");
            item.textContent = name;
            item.addEventListener("click", () => location.assign(href));
            return item;
        }));
        choose(0);
    };
    input.oninput = follow;
    input.onkeydown = (event) => {
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            event.preventDefault();
            choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
        } else if (event.key === "Enter") {
            event.preventDefault();
            if (found[chosen]) location.assign(found[chosen][1]);
        }
    };
    input.value = "";
    follow();
    palette.showModal();
    input.focus();
    return true;
};

// A menu closes when something else is meant.
document.addEventListener("click", (event) => {
    document.querySelectorAll("[data-menu][open]").forEach((menu) => {
        if (!menu.contains(event.target)) menu.open = false;
    });
});

// Each instance has its own.
const cookieName = () => document.querySelector("meta[name=csrf-cookie]")?.content || "csrftoken";

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
    const token = document.cookie.split("; ").find((part) => part.startsWith(`${cookieName()}=`));
    const field = form.elements.csrfmiddlewaretoken;
    if (token && field) field.value = token.split("=")[1];
});
// Back from the browser's cache: the form may be sent again.
window.addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});

// Countdowns count by the server's clock: a desk's may be wrong by minutes. The board's count by themselves.
const offsets = new WeakMap();
setInterval(() => {
    document.querySelectorAll("[data-until][data-at]").forEach((element) => {
        if (offsets.get(element)?.at !== element.dataset.at) {
            offsets.set(element, { at: element.dataset.at, by: Number(element.dataset.at) - Date.now() });
        }
        const left = Number(element.dataset.until) - Date.now() - offsets.get(element).by;
        const s = Math.max(0, Math.floor(left / 1000));
        const two = (value) => String(value).padStart(2, "0");
        const hours = Math.floor(s / 3600);
        const minutes = Math.floor(s / 60) % 60;
        const text = `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(s % 60)}`;
        if (element.textContent !== text) element.textContent = text;
    });
}, 250);
