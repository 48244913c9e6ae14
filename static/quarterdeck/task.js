// A task's page: how old it is, and that nothing changes any more. Polling itself is htmx's.
"use strict";
(() => {
    const poll = document.querySelector("[data-poll]");
    const live = document.querySelector("[data-live]");
    const words = document.querySelector("[data-live-words]");
    if (!poll || !live) return;

    let answered = Date.now();
    let failed = null;
    let ended = false;

    const say = () => {
        const age = Math.round((Date.now() - answered) / 1000);
        const lost = !ended && !document.hidden && (failed !== null || age > 10);
        live.classList.toggle("lost", lost);
        live.classList.toggle("paused", ended);
        let said = age < 3 ? "live" : `updated ${age} s ago`;
        if (ended) said = "final";
        else if (lost) said = `${failed || "connection lost"}; last update ${age} s ago, retrying`;
        if (words.textContent !== said) words.textContent = said;
    };

    document.body.addEventListener("htmx:beforeRequest", (event) => {
        if (event.target === poll && (document.hidden || ended)) event.preventDefault();
    });
    document.body.addEventListener("htmx:afterRequest", (event) => {
        if (event.target !== poll) return;
        const status = event.detail.xhr?.status;
        failed = event.detail.successful ? null : status ? `the server answered ${status}` : "connection lost";
        if (event.detail.successful) answered = Date.now();
        ended = ended || status === 286;
        say();
    });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden) say();
    });
    setInterval(say, 1000);
    say();
})();
