// The slider shows its number at once; the bars follow from the server. Until they do, the list can't be placed;
// and when no answer comes, the page says so.
"use strict";
(() => {
    const place = () => document.querySelector("[data-place]");

    document.addEventListener("input", (event) => {
        const words = document.querySelector("[data-rpm-words]");
        if (!words || !event.target.matches("[data-rpm]")) return;
        words.textContent = Number(event.target.value).toLocaleString("en-US");
    });

    const asks = (event) => event.detail.target?.id === "preview";
    document.addEventListener("htmx:beforeRequest", (event) => {
        if (asks(event) && place()) place().disabled = true;
    });
    const fail = (event) => {
        if (!asks(event)) return;
        const status = event.detail.xhr?.status;
        const said = document.createElement("p");
        said.className = "message error";
        said.setAttribute("role", "alert");
        said.textContent = `${status ? `The server answered ${status}` : "The connection was lost"}. `
            + "This preview is out of date. Change something to try again.";
        const preview = document.getElementById("preview");
        preview.querySelector("[role=alert]")?.remove();
        preview.prepend(said);
    };
    ["htmx:responseError", "htmx:sendError", "htmx:timeout"].forEach((kind) => document.addEventListener(kind, fail));
})();
