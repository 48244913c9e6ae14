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

// Ctrl K: the pages by their names, an ID by its digits, and queues, tasks and saved views, which the server finds.
const openPalette = () => {
    const palette = document.querySelector("[data-palette]");
    if (!palette || palette.open) return false;
    const input = palette.querySelector("input");
    const list = palette.querySelector("ul");
    const links = [...document.querySelectorAll(".sections a[href], .help-link, .menu .items a[href]")];
    const pages = links.map((link) => ["page", link.getAttribute("aria-label") || link.textContent.trim(), link.href]);
    let chosen = 0;
    let found = [];
    let asked = "";
    let waiting = null;

    const choose = (index) => {
        chosen = Math.max(0, Math.min(index, found.length - 1));
        [...list.children].forEach((item, k) => item.setAttribute("aria-selected", String(k === chosen)));
        if (list.children[chosen]) {
            input.setAttribute("aria-activedescendant", list.children[chosen].id);
            list.children[chosen].scrollIntoView({ block: "nearest" });
        }
    };
    const show = () => {
        list.replaceChildren(...found.map(([kind, name, href], k) => {
            const item = document.createElement("li");
            item.id = `palette-${k}`;
            item.setAttribute("role", "option");
            const label = document.createElement("span");
            label.textContent = name;
            const about = document.createElement("span");
            about.className = "quiet small";
            about.textContent = kind;
            item.append(label, " ", about);
            item.addEventListener("click", () => location.assign(href));
            return item;
        }));
    };
    const ask = async (text) => {
        const response = await fetch(`${palette.dataset.palette}?q=${encodeURIComponent(text)}`).catch(() => null);
        if (!response?.ok || response.redirected || asked !== text) return;
        found = [...found, ...(await response.json()).found];
        if (asked !== text) return;
        const was = chosen;
        show();
        choose(was);
    };
    const follow = () => {
        const text = input.value.trim();
        asked = text;
        found = pages.filter(([, name]) => name.toLowerCase().includes(text.toLowerCase()));
        const search = document.querySelector(".find");
        if (/^\d+$/.test(text) && search) found.unshift(["ID", text, `${search.action}?q=${text}`]);
        show();
        choose(0);
        clearTimeout(waiting);
        if (text) waiting = setTimeout(() => ask(text), 120);
    };
    input.oninput = follow;
    input.onkeydown = (event) => {
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            event.preventDefault();
            choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
        } else if (event.key === "Enter") {
            event.preventDefault();
            if (found[chosen]) location.assign(found[chosen][2]);
        }
    };
    input.value = "";
    follow();
    palette.showModal();
    input.focus();
    return true;
};

// A chart is one stop of the Tab key: the arrow keys go along its bars.
document.addEventListener("keydown", (event) => {
    const chart = event.target.closest?.(".plot, .heat");
    if (!chart || event.ctrlKey || event.metaKey || event.altKey) return;
    const bars = [...chart.querySelectorAll("a")];
    const now = bars.indexOf(event.target);
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: bars.length - 1 }[event.key];
    if (to !== undefined) {
        event.preventDefault();
        bars[Math.max(0, Math.min(to, bars.length - 1))]?.focus();
    } else if (event.key === "Tab") {
        // The browser looks for the next stop after this handler, and before the timer.
        const others = bars.filter((bar) => bar !== event.target);
        others.forEach((bar) => bar.setAttribute("tabindex", "-1"));
        setTimeout(() => others.forEach((bar) => bar.removeAttribute("tabindex")));
    }
});

// A menu closes when something else is meant.
document.addEventListener("click", (event) => {
    document.querySelectorAll("[data-menu][open]").forEach((menu) => {
        if (!menu.contains(event.target)) menu.open = false;
    });
});

// Each instance has its own.
const cookieName = () => document.querySelector("meta[name=csrf-cookie]")?.content || "csrftoken";

// A button can be about the fields of another form, which reload the part that contains the button: what has been
// typed when it is pressed is what it sends. Not sent is what only asks for a preview.
const ONLY_ASKED = ["part", "rpm", "rpm_of"];
let sender = null;
const typedFor = (button) => (button?.dataset.with ? document.getElementById(button.dataset.with) : null);
const typedIn = (form) => [...new FormData(form)].filter(([name]) => !ONLY_ASKED.includes(name));
document.addEventListener("formdata", (event) => {
    const typed = sender?.form === event.target ? typedFor(sender) : null;
    if (typed) typedIn(typed).forEach(([name, value]) => event.formData.set(name, value));
});

// A double click is not two acts.
document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    sender = event.submitter;
    if (typedFor(sender)?.reportValidity() === false) {
        event.preventDefault();
        return;
    }
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
    settle();
});

// A button that is replaced between press and release gets no click: while something is pressed in a part, and once
// a form of it is sent, the part is not replaced. What has arrived by then is shown after the press.
let pressed = null;
const arrived = new Map();
const isHeld = (part) => part.contains(pressed) || part.querySelector("form[data-sent]") !== null;
let release = 0;
const settle = () => {
    clearTimeout(release);
    release = setTimeout(() => {
        pressed = null;
        [...arrived].forEach(([id, text]) => {
            const part = document.getElementById(id);
            if (part && isHeld(part)) return;
            arrived.delete(id);
            if (part) window.htmx.swap(part, text, { swapStyle: "outerHTML" });
        });
    });
};
// The next press may begin before the last release has run.
const press = (target) => {
    clearTimeout(release);
    pressed = target;
};
document.addEventListener("pointerdown", (event) => press(event.target), true);
document.addEventListener("keydown", (event) => {
    if (event.key === " ") press(event.target);
}, true);
["pointerup", "pointercancel", "keyup"].forEach((kind) => document.addEventListener(kind, settle, true));
document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, requestConfig, shouldSwap, serverResponse } = event.detail;
    if (!shouldSwap || !target.id || requestConfig.elt.getAttribute("hx-swap") !== "outerHTML") return;
    if (isHeld(target)) {
        event.detail.shouldSwap = false;
        arrived.set(target.id, serverResponse);
    } else {
        arrived.delete(target.id);
    }
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

// --- Alarms: every page but the board asks now and then, for its title, its icon, the menu and screen readers ---
const alarmsAddress = document.querySelector("meta[name=alarms]")?.content;
if (alarmsAddress) {
    document.addEventListener("DOMContentLoaded", () => {
        if (document.querySelector("#alarms")) return;
        const title = document.title;
        const icon = document.querySelector("link[rel=icon]");
        const calm = icon?.href;
        const words = document.querySelector("[data-page-alarms]");
        let told = "";
        const ask = async () => {
            if (document.hidden) return;
            const response = await fetch(alarmsAddress).catch(() => null);
            if (!response?.ok || response.redirected) return;
            const { alarms } = await response.json();
            document.title = alarms.length ? `(${alarms.length}!) ${title}` : title;
            if (icon) icon.href = alarms.length ? icon.dataset.alarm : calm;
            const board = document.querySelector(".sections a");
            if (board) {
                board.querySelector(".badge")?.remove();
                if (alarms.length) {
                    const badge = document.createElement("span");
                    badge.className = "badge";
                    badge.textContent = `${alarms.length}!`;
                    badge.title = alarms.join("; ");
                    board.append(" ", badge);
                }
            }
            // Only what is new is announced.
            if (words && alarms.length !== Number(told)) words.textContent = alarms.join(". ");
            told = String(alarms.length);
        };
        ask();
        setInterval(ask, 20000);
        document.addEventListener("visibilitychange", ask);
    });
}
