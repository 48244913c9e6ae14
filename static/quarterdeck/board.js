// The board's clock, its pause switch, and the sign that says how old it is. Polling itself is htmx's.
"use strict";
(() => {
    const clock = document.querySelector("[data-clock]");
    const poll = document.querySelector("[data-poll]");
    const live = document.querySelector("[data-live]");
    const words = document.querySelector("[data-live-words]");
    const pause = document.querySelector("[data-pause]");
    if (!clock || !poll) return;

    // The server's clock counts: a desk's may be wrong by minutes.
    const offset = Number(clock.dataset.at) - Date.now();
    const now = () => Date.now() + offset;
    const format = new Intl.DateTimeFormat("en-GB", {
        timeZone: clock.dataset.zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
    });
    let answered = Date.now();
    let failed = null;
    let paused = false;
    // New rows were asked for, and aren't there yet.
    let taken = false;

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
        if ((paused && !taken) || document.hidden) event.preventDefault();
    });
    // A list that is pointed at or focused keeps its rows where they are. What they say goes on; rows that are
    // new are counted by a button in the heading, and come when it is pressed, or once the list is left.
    const rowsOf = (table) => [...(table?.tBodies[0]?.rows || [])];
    const keyOf = (row) => row.querySelector("[id]")?.id;
    const stay = (held, part) => {
        const list = part.querySelector("[data-hold]");
        if (!list) return;
        const fresh = new Map(rowsOf(list).map((row) => [keyOf(row), row]));
        const kept = rowsOf(held).map((row) => {
            const now = fresh.get(keyOf(row));
            fresh.delete(keyOf(row));
            return now || row.cloneNode(true);
        });
        list.tBodies[0].replaceChildren(...kept);
        if (!fresh.size) return;
        part.querySelector("[data-offer]").textContent = `${fresh.size} new`;
        // This isn't the version that the server drew: the next poll brings all of it.
        part.querySelector("[name=version]").setAttribute("value", "held");
    };
    document.body.addEventListener("htmx:beforeSwap", (event) => {
        if (event.detail.target?.id !== "board" || event.detail.xhr.status !== 200) return;
        const list = document.querySelector("#board [data-hold]");
        const isHeld = list?.matches(":hover, :focus-within");
        const isOffered = document.querySelector("[data-offer]:not(:empty):is(:hover, :focus)");
        if (taken || !(isHeld || isOffered)) return;
        const part = new DOMParser().parseFromString(event.detail.serverResponse, "text/html").querySelector("#board");
        if (!part) return;
        stay(list, part);
        event.detail.serverResponse = part.outerHTML;
    });
    // Answers take the place of the button, so that the page listens.
    document.body.addEventListener("click", (event) => {
        if (!event.target.closest("[data-offer]")) return;
        taken = true;
        htmx.trigger(poll, "take");
    });
    document.body.addEventListener("htmx:afterSettle", (event) => {
        if (!taken || event.detail.target?.id !== "board") return;
        taken = false;
        document.querySelector("#board [data-hold] a")?.focus({ preventScroll: true });
    });
    document.body.addEventListener("htmx:afterRequest", (event) => {
        if (event.target !== poll) return;
        if (event.detail.successful) {
            answered = Date.now();
            failed = null;
        } else {
            const status = event.detail.xhr?.status;
            failed = status ? `the server answered ${status}` : "connection lost";
        }
        say();
    });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden) say();
    });
    setInterval(tick, 250);
    tick();
})();
