// The slider says its number at once; the bars follow from the server. What stands there meanwhile is no answer
// to what is asked, so it can't be placed; and when no answer comes, that is said.
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
        said.textContent = `${status ? `The server answers ${status}` : "The connection is lost"}: `
            + "this is the preview of before. Change something to ask once more.";
        const preview = document.getElementById("preview");
        preview.querySelector("[role=alert]")?.remove();
        preview.prepend(said);
    };
    ["htmx:responseError", "htmx:sendError", "htmx:timeout"].forEach((kind) => document.addEventListener(kind, fail));
})();
