// Sends the list with a progress bar. The file and the text stay where they are until the preview is there,
// so whatever goes wrong on the way, the same button can be pressed again.
"use strict";
(() => {
    const form = document.querySelector("[data-upload]");
    if (!form) return;
    const find = (name) => form.querySelector(`[data-${name}]`);
    const said = document.querySelector("[data-said]");
    const file = form.elements.file;
    const drop = find("drop");
    const progress = find("progress");
    const progressWords = find("progress-words");
    const send = find("send");

    const size = (bytes) => bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
    const cookie = (name) => document.cookie.split("; ").find((part) => part.startsWith(`${name}=`))?.split("=")[1];

    const element = (name, text, className) => {
        const made = document.createElement(name);
        if (text !== undefined) made.textContent = text;
        if (className) made.className = className;
        return made;
    };
    const say = (sentence, more = []) => {
        const message = element("p", sentence, "message error");
        message.setAttribute("role", "alert");
        said.replaceChildren(message, ...more);
        said.scrollIntoView({ block: "nearest" });
    };
    const rest = () => {
        progress.hidden = true;
        progressWords.textContent = "";
        send.disabled = false;
        delete form.dataset.sent;
    };

    // The columns of a table, as its first lines show them: ticks that fill in the field. The server decides.
    const cells = (line, delimiter) => {
        const found = [];
        const pattern = new RegExp(`(?:"((?:[^"]|"")*)"|([^${delimiter}]*))(?:${delimiter}|$)`, "y");
        while (pattern.lastIndex <= line.length) {
            const match = pattern.exec(line);
            if (!match) break;
            found.push((match[1] ?? match[2] ?? "").replaceAll('""', '"').trim());
            if (pattern.lastIndex >= line.length && !match[0].endsWith(delimiter)) break;
        }
        return found;
    };
    const isNumber = (text) => /^[0-9]+$/.test(text);
    // UTF-8 unless the file begins with the mark of UTF-16, as Excel's "Unicode text" does.
    const textOf = async (blob) => {
        const bytes = await blob.arrayBuffer();
        const mark = [...new Uint8Array(bytes.slice(0, 2))].join(" ");
        return new TextDecoder({ "255 254": "utf-16le", "254 255": "utf-16be" }[mark] || "utf-8").decode(bytes);
    };
    const offerColumns = async () => {
        const list = find("columns");
        if (!list) return;
        list.replaceChildren();
        list.hidden = true;
        find("text-offer").hidden = true;
        const chosen = file.files[0];
        if (!chosen || /\.(xlsx|gz|ndjson|jsonl)$/i.test(chosen.name)) return;
        const lines = (await textOf(chosen.slice(0, 65536))).split(/\r\n|\r|\n/).filter((line) => line.trim());
        const separator = /^"?sep=([,;\t])"?[,;]*$/i.exec(lines[0] ?? "")?.[1];
        if (separator) lines.shift();
        if (chosen !== file.files[0] || lines.length < 2) return;
        const delimiter = separator
            || [",", ";", "\t"].sort((a, b) => lines[0].split(b).length - lines[0].split(a).length)[0];
        const names = cells(lines[0], delimiter);
        const rows = lines.slice(1, 4).map((line) => cells(line, delimiter));
        const asked = form.elements.column.value.trim();
        const plain = (name) => name.normalize("NFC").toLowerCase().replace(/[\s_-]/g, "");
        const wanted = asked ? [plain(asked)] : ["id", "userid"];
        const named = names.findIndex((name) => wanted.includes(plain(name)));
        const id = isNumber(asked) ? Number(asked) - 1 : names.length === 1 ? 0 : named;
        if (id >= 0 && form.elements.id_type.value !== "text") {
            find("text-offer").hidden = rows.some((row) => isNumber(row[id] ?? "")) || names.some(isNumber);
        }
        if (names.length < 2 || names.some(isNumber)) return;
        const fill = () => {
            const ticked = [...list.querySelectorAll("input:checked")].map((box) => box.value);
            const plainNames = ticked.every((name) => !/[,[*]/.test(name));
            form.elements.data.value = plainNames ? ticked.join(", ") : JSON.stringify(ticked);
        };
        names.forEach((name, column) => {
            if (!name || column === id) return;
            const label = element("label");
            const box = element("input");
            box.type = "checkbox";
            box.value = name;
            box.addEventListener("change", fill);
            const values = rows.map((row) => (row[column] ?? "").slice(0, 30)).filter(Boolean).join(" · ");
            label.append(box, ` ${name} `, element("span", values, "quiet"));
            const item = element("li");
            item.append(label);
            list.append(item);
        });
        list.hidden = !list.children.length;
    };
    find("text")?.addEventListener("click", () => {
        form.elements.id_type.value = "text";
        find("text-offer").hidden = true;
    });

    // Its name stands beside the button already: the browser says it.
    const measured = () => {
        offerColumns();
        const chosen = file.files[0];
        find("file-words").textContent = chosen ? size(chosen.size) : "or drop it here";
        find("file-clear").hidden = !chosen;
    };
    find("file-clear").addEventListener("click", () => {
        file.value = "";
        measured();
        file.focus();
    });
    file.addEventListener("change", measured);
    form.elements.column.addEventListener("change", offerColumns);
    // Anywhere on the page: beside the field the browser would leave the page for the file.
    const brings = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
    ["dragenter", "dragover"].forEach((kind) => document.addEventListener(kind, (event) => {
        if (!brings(event)) return;
        event.preventDefault();
        drop.classList.add("over");
    }));
    document.addEventListener("dragleave", (event) => {
        if (!event.relatedTarget) drop.classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
        drop.classList.remove("over");
        if (!brings(event)) return;
        event.preventDefault();
        file.files = event.dataTransfer.files;
        measured();
    });

    const choose = (parameter, choices) => {
        const box = element("div", undefined, "row");
        box.append(element("span", `Which ${parameter} contains the IDs?`));
        choices.forEach((choice) => {
            const label = `${choice.name || `${parameter} ${choice.number}`}: ${choice.values.join(", ")}`;
            const button = element("button", label, "button small");
            button.type = "button";
            button.addEventListener("click", () => {
                form.elements[parameter].value = choice.name || String(choice.number);
                form.requestSubmit();
            });
            box.append(button);
        });
        return box;
    };
    const signedOut = () => {
        const link = element("a", "Sign in in another tab");
        link.href = form.dataset.signIn;
        link.target = "_blank";
        const more = element("p");
        more.append(link, ", then press the button again. Your list is still here.");
        say("You are signed out. The list was not stored.", [more]);
    };
    const answered = (request) => {
        rest();
        if (request.status === 204 || request.status === 401) return signedOut();
        let answer = {};
        try {
            answer = JSON.parse(request.responseText);
        } catch { /* said below */ }
        if (request.status === 201 && answer.address) {
            location.assign(answer.address);
            return undefined;
        }
        if (request.status === 403) {
            return say(answer.sentence || "Your role no longer allows uploads. The list was not stored.");
        }
        const more = [];
        if (answer.choices?.length) more.push(choose(answer.parameter, answer.choices));
        (answer.faults || []).slice(0, 5).forEach((fault) => {
            more.push(element("p", fault, "small"));
        });
        return say(answer.sentence || `The server answered ${request.status}. The list was not stored.`, more);
    };

    form.addEventListener("submit", (event) => {
        event.preventDefault();
        const chosen = file.files[0];
        const text = form.elements.payload.value.trim();
        if (!chosen && !text) return say("Choose a file or paste some IDs.");
        if (chosen && text) return say("Choose a file or paste IDs, not both.");
        if (chosen && chosen.size > Number(form.dataset.maxBytes)) {
            return say(`The file has ${size(chosen.size)}. The limit is ${size(Number(form.dataset.maxBytes))}.`);
        }
        said.replaceChildren();
        send.disabled = true;
        progress.hidden = false;
        progress.value = 0;
        const request = new XMLHttpRequest();
        request.open("POST", form.action || location.href);
        // Marks it as a script's request: a sign-in page would be no answer to it.
        request.setRequestHeader("HX-Request", "true");
        // From the cookie, since signing in anew changes it.
        const token = cookie(document.querySelector("meta[name=csrf-cookie]")?.content);
        if (token) request.setRequestHeader("X-CSRFToken", token);
        request.upload.addEventListener("progress", (at) => {
            if (!at.lengthComputable) return;
            progress.value = (100 * at.loaded) / at.total;
            progressWords.textContent = at.loaded < at.total
                ? `${size(at.loaded)} of ${size(at.total)}` : "uploaded; working out the plan";
        });
        request.addEventListener("load", () => answered(request));
        request.addEventListener("error", () => {
            rest();
            say("The connection was lost, so the list was not stored. It is still here: try again.");
        });
        request.send(new FormData(form));
        return undefined;
    });
})();
