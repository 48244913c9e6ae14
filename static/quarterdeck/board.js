// The board's clock, its pause switch, and the sign that says how old it is. Polling itself is htmx's.
"use strict";
(() => {
    const clock = document.querySelector("[data-clock]");
    const poll = document.querySelector("[data-poll]");
    const live = document.querySelector("[data-live]");
    const words = document.querySelector("[data-live-words]");
    const pause = document.querySelector("[data-pause]");
    if (!clock || !poll) return;

    // Who still reads UTC, and whose browser knows better, is told where to choose. Once: whoever looked has decided.
    const offered = document.querySelector("[data-zone-offer=UTC]");
    const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (offered && here && here !== "UTC" && !localStorage.getItem("quarterdeck.zone")) {
        offered.textContent = `show times in ${here}`;
        offered.hidden = false;
        offered.addEventListener("click", () => localStorage.setItem("quarterdeck.zone", here));
    }

    // The server's clock counts: a desk's may be wrong by minutes.
    const offset = Number(clock.dataset.at) - Date.now();
    const now = () => Date.now() + offset;
    const format = new Intl.DateTimeFormat("en-GB", {
        timeZone: clock.dataset.zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
    });
    let answered = Date.now();
    let failed = null;
    let paused = false;

    const span = (ms) => {
        const s = Math.max(0, ms) / 1000;
        if (s < 10) return `${s.toFixed(1)} s`;
        if (s < 120) return `${Math.round(s)} s`;
        return `${Math.round(s / 60)} min`;
    };
    const put = (element, text) => {
        if (element && element.textContent !== text) element.textContent = text;
    };

    const tick = () => {
        put(clock, format.format(now()));
        document.querySelectorAll("[data-until]").forEach((element) => {
            let left = Number(element.dataset.until) - now();
            const step = Number(element.dataset.step);
            if (step) left = ((left % step) + step) % step;
            const s = Math.max(0, Math.floor(left / 1000));
            put(element, `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`);
        });
        document.querySelectorAll("[data-ago]").forEach((element) => {
            put(element, span(now() - Number(element.dataset.ago)));
        });
        say();
    };

    const say = () => {
        const age = Math.round((Date.now() - answered) / 1000);
        const lost = !paused && (failed !== null || age > 6) && !document.hidden;
        live.classList.toggle("lost", lost);
        live.classList.toggle("paused", paused);
        document.body.classList.toggle("stale", lost);
        if (paused) put(words, `updates paused, as of ${format.format(answered + offset)}`);
        else if (lost) put(words, `${failed || "connection lost"}; last update ${age} s ago, retrying`);
        else put(words, age < 1 ? "updated just now" : `updated ${age} s ago`);
    };

    pause.addEventListener("click", () => {
        paused = !paused;
        pause.setAttribute("aria-pressed", String(paused));
        pause.textContent = paused ? "Resume updates" : "Pause updates";
        if (!paused) answered = Date.now();
        say();
    });

    document.body.addEventListener("htmx:beforeRequest", (event) => {
        if (event.target !== poll && !event.target.matches?.("[data-slow]")) return;
        if (paused || document.hidden) event.preventDefault();
    });

    // --- What a poll brings ---
    // A poll sends the parts that changed. Each is morphed, so that an element stays the same element: focus, an
    // open menu and a press survive. What is being pressed or selected right now waits until that is over, and so
    // does the list of tasks while it is pointed at or focused.
    const waiting = new Map();
    let pressed = false;
    let release = 0;
    // The next press may begin before the last release has run.
    document.addEventListener("pointerdown", () => { clearTimeout(release); pressed = true; }, true);
    const released = () => { release = setTimeout(() => { pressed = false; settle(); }); };
    ["pointerup", "pointercancel"].forEach((kind) => document.addEventListener(kind, released, true));
    document.addEventListener("selectionchange", () => {
        if (waiting.size && document.getSelection().isCollapsed) settle();
    });

    const isSelected = (element) => {
        const selection = document.getSelection();
        return !selection.isCollapsed && selection.rangeCount && selection.getRangeAt(0).intersectsNode(element);
    };
    const isHeld = (element) => element.matches("[data-hold]:hover, [data-hold]:focus-within")
        || document.querySelector("[data-offer]:not(:empty):is(:hover, :focus)");
    const morph = (element, part) => {
        // A menu that was opened stays open.
        const callbacks = {
            beforeAttributeUpdated: (name, of) => !(name === "open" && of.matches("details")),
        };
        Idiomorph.morph(element, part.cloneNode(true), { morphStyle: "outerHTML", callbacks });
    };
    // Rows that are there already go on in place; those that are new are counted, and come when they are asked for.
    const goOnInPlace = (table, part) => {
        part.querySelectorAll("td[id]").forEach((cell) => {
            const now = table.querySelector(`#${CSS.escape(cell.id)}`);
            if (now && !isSelected(now)) morph(now, cell);
        });
    };
    const newRows = () => [...(waiting.get("tasks-table")?.querySelectorAll("tr[id]") || [])]
        .filter((row) => !document.getElementById(row.id)).length;
    const offer = () => {
        const count = newRows();
        put(document.querySelector("[data-offer]"), count ? `${count} new` : "");
    };

    const take = (part, isAsked = false) => {
        const element = document.getElementById(part.id);
        if (!element) return true;
        if (pressed || isSelected(element)) return false;
        if (part.matches("[data-hold]") && element.matches("[data-hold]") && !isAsked && isHeld(element)) {
            goOnInPlace(element, part);
            return false;
        }
        morph(element, part);
        return true;
    };
    const settle = (isAsked = false) => {
        [...waiting].forEach(([id, part]) => {
            if (take(part, isAsked)) waiting.delete(id);
        });
        offer();
        tell();
    };
    const receive = (text) => {
        const template = document.createElement("template");
        template.innerHTML = text;
        const unwrap = (element) => element.id ? [element] : [...element.children].flatMap(unwrap);
        [...template.content.children].flatMap(unwrap).forEach((part) => {
            // A part of one that still waits is put there; one that brings all of it takes its place.
            waiting.forEach((of) => of.querySelector(`#${CSS.escape(part.id)}`)?.replaceWith(part.cloneNode(true)));
            waiting.set(part.id, part);
            part.querySelectorAll("[id]").forEach((inner) => waiting.delete(inner.id));
        });
        settle();
    };

    document.body.addEventListener("click", (event) => {
        if (!event.target.closest("[data-offer]")) return;
        settle(true);
        document.querySelector("#board [data-hold] a")?.focus({ preventScroll: true });
    });

    // The panel of a brake or a pause: closed in place, and then the focus is back where it was opened.
    document.body.addEventListener("click", (event) => {
        if (!event.target.closest("#slow-down [data-close]")) return;
        event.preventDefault();
        document.getElementById("slow-down").replaceChildren();
        document.getElementById("to-brake")?.focus();
    });
    document.body.addEventListener("htmx:afterSettle", (event) => {
        if (event.detail.target?.id === "slow-down") document.getElementById("slow-per-minute")?.focus();
    });

    // --- Alarms: in the page's title, in its icon, and in words for screen readers ---
    const title = document.title;
    const icon = document.querySelector("link[rel=icon]");
    const calm = icon?.href;
    let told = null;
    const tell = () => {
        const count = Number(document.querySelector("[data-alarms]")?.dataset.alarms || 0);
        const words = count ? [...document.querySelectorAll("#alarms .chip")].map((chip) => chip.textContent.trim()) : [];
        document.title = count ? `(${count}!) ${title}` : title;
        if (icon) icon.href = count ? icon.dataset.alarm : calm;
        // Not each second: what is late grows, and that is no news.
        if (count !== told) put(document.querySelector("[data-alarm-words]"), words.join(". "));
        told = count;
    };
    tell();

    document.body.addEventListener("htmx:afterRequest", (event) => {
        if (event.target !== poll) return;
        if (event.detail.successful) {
            answered = Date.now();
            failed = null;
            if (event.detail.xhr.status === 200 && !event.detail.xhr.getResponseHeader("HX-Redirect")) {
                receive(event.detail.xhr.responseText);
            }
        } else {
            const status = event.detail.xhr?.status;
            failed = status ? `the server answered ${status}` : "connection lost";
        }
        say();
    });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden) say();
    });
    setInterval(() => {
        tick();
        if (waiting.size) settle();
    }, 250);
    tick();
})();
