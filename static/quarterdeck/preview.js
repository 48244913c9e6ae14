// The slider shows its number at once; the bars follow from the server. When no answer comes, the page says so.
// A list that is placed before the plan has followed says that the fields are newer.
"use strict";
(() => {
    const ask = document.getElementById("ask");
    const typed = () => JSON.stringify(typedIn(ask));
    let shown = typed();
    let asked = shown;

    document.addEventListener("input", (event) => {
        const words = document.querySelector("[data-rpm-words]");
        if (!words || !event.target.matches("[data-rpm]")) return;
        words.textContent = Number(event.target.value).toLocaleString("en-US");
    });

    const asks = (event) => event.detail.target?.id === "preview";
    document.addEventListener("htmx:beforeRequest", (event) => {
        if (asks(event)) asked = typed();
    });
    document.addEventListener("htmx:afterSwap", (event) => {
        if (asks(event)) shown = asked;
    });
    document.addEventListener("formdata", (event) => {
        if (event.target.matches("[data-commit]") && typed() !== shown) event.formData.set("changed", "on");
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
