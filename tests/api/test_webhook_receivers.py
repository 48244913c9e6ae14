"""The code of docs/signatures.md, run unchanged against calls of the real sender."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest
from django.conf import settings
from standardwebhooks import Webhook as Signer

from scheduling import models
from scheduling.handlers.base import Request
from scheduling.handlers.webhook import Webhook
from scheduling.tasks import callbacks

PAGE = (Path(settings.BASE_DIR) / "docs" / "webhooks.md").read_text()
SIGNATURES = (Path(settings.BASE_DIR) / "docs" / "signatures.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def received() -> tuple[bytes, dict[str, str]]:
    """Body and headers (names in lower case) of a call, as a receiver gets them."""
    calls = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append((body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()

        async def send():
            handler = Webhook(
                f"http://127.0.0.1:{server.server_port}/in",
                secret=SECRET,
                allowed=[ip_network("127.0.0.0/8")],
            )
            planned = datetime(2026, 11, 25, 12, 17, tzinfo=UTC)
            (outcome,) = await handler.handle([Request(9007199254740993, 7, "Zoë", "default", planned, 1)])
            await handler.close()
            return outcome

        assert asyncio.run(send()).status == 204
    return calls[0]


def test_webhook_body_is_the_documented_one(received):
    documented = json.loads(re.search(r"\n\n(\{.*?\})\n```", PAGE, re.DOTALL)[1])
    body = json.loads(received[0])
    assert body.keys() == documented.keys()
    assert body["user_id_str"] == "9007199254740993"
    assert received[1]["webhook-id"] == received[1]["idempotency-key"]


def test_callback_body_is_the_documented_one():
    documented = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    counts = {f"{name}_count": value for name, value in documented["counts"].items()}
    task = models.Task(
        pk=7,
        name="November",
        queue=models.Queue(name="default"),
        finished_at=datetime(2026, 11, 25, 12, 17, 2, tzinfo=UTC),
        **counts,
    )
    assert json.loads(callbacks.body_of(task, task.finished_at)) == documented


def others(body: bytes, headers: dict[str, str]) -> list[tuple[bytes, dict[str, str], str]]:
    """Calls that are not genuine: another body, id, time or secret; an old one; one without a signature."""
    at = datetime.now(UTC) - timedelta(minutes=10)
    long_ago = {
        "webhook-id": "msg_7_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Signer(SECRET).sign("msg_7_1", at, body.decode()),
    }
    return [
        (body + b" ", headers, SECRET),
        (body, headers | {"webhook-id": "msg_7_2"}, SECRET),
        (body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, SECRET),
        (body, headers | {"webhook-signature": "v1,AAAA"}, SECRET),
        (body, headers | {"webhook-signature": ""}, SECRET),
        (body, headers, "whsec_" + "A" * 32),
        (body, long_ago, SECRET),
    ]


def test_signature_check_in_python_recognizes_our_calls(received):
    (code,) = re.findall(r"```python\n(.*?)```", SIGNATURES, re.DOTALL)
    result: dict = {}
    exec(code, result)
    is_genuine = result["is_genuine"]
    assert is_genuine(SECRET, *received)
    assert [is_genuine(secret, body, headers) for body, headers, secret in others(*received)] == [False] * 7


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_signature_check_in_javascript_recognizes_our_calls(received):
    (code,) = re.findall(r"```js\n(.*?)```", SIGNATURES, re.DOTALL)
    calls = [(*received, SECRET), *others(*received)]
    data = json.dumps([[secret, body.decode(), headers] for body, headers, secret in calls])
    script = code + (
        'const calls = JSON.parse(require("node:fs").readFileSync(0));'
        "console.log(JSON.stringify(calls.map(([secret, body, headers]) =>"
        " isGenuine(secret, Buffer.from(body), headers))));"
    )
    done = subprocess.run(["node", "-e", script], input=data, capture_output=True, text=True, timeout=300)
    assert json.loads(done.stdout) == [True] + [False] * 7, done.stderr


def calls_as_lines(received) -> str:
    """Each call on a line: secret, body, and each header as name and value, in base64."""
    calls = [(*received, SECRET), *others(*received)]
    lines = []
    for body, headers, secret in calls:
        words = [secret.encode(), body, *(text.encode() for pair in headers.items() for text in pair)]
        lines.append(" ".join(base64.b64encode(word).decode() or "=" for word in words))
    return "\n".join(lines) + "\n"


JAVA = """
class Check {
  static byte[] decoded(String word) {
    return word.equals("=") ? new byte[0] : Base64.getDecoder().decode(word);
  }

  public static void main(String[] arguments) throws Exception {
    java.util.Scanner lines = new java.util.Scanner(System.in);
    while (lines.hasNextLine()) {
      String[] words = lines.nextLine().split(" ");
      Map<String, String> headers = new java.util.HashMap<>();
      for (int n = 2; n + 1 < words.length; n += 2) {
        headers.put(new String(decoded(words[n]), "UTF-8"), new String(decoded(words[n + 1]), "UTF-8"));
      }
      String secret = new String(decoded(words[0]), "UTF-8");
      System.out.println(Signature.isGenuine(secret, decoded(words[1]), headers));
    }
  }
}

"""
PHP = """
while (($line = fgets(STDIN)) !== false) {
    $words = array_map(fn($word) => $word === "=" ? "" : base64_decode($word), explode(" ", trim($line)));
    $headers = [];
    for ($n = 2; $n + 1 < count($words); $n += 2) { $headers[$words[$n]] = $words[$n + 1]; }
    echo is_genuine($words[0], $words[1], $headers) ? "true" : "false", PHP_EOL;
}
"""
GO = """
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		for n, word := range words {
			decoded, _ := base64.StdEncoding.DecodeString(word)
			words[n] = string(decoded)
		}
		headers := map[string]string{}
		for n := 2; n+1 < len(words); n += 2 {
			headers[words[n]] = words[n+1]
		}
		fmt.Println(isGenuine(words[0], []byte(words[1]), headers))
	}
}
"""
LANGUAGES = {
    # Language of the page: the program that runs it, the files, and the command.
    "java": (
        "javac",
        {"Check.java": lambda code: code.replace("class Signature", JAVA + "class Signature")},
        ["java", "Check.java"],
    ),
    "php": ("php", {"check.php": lambda code: "<?php\n" + code + PHP}, ["php", "check.php"]),
    "go": (
        "go",
        {"check.go": lambda code: code, "main.go": lambda code: GO},
        ["go", "run", "check.go", "main.go"],
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_signature_check_recognizes_our_calls(received, tmp_path, language):
    program, files, command = LANGUAGES[language]
    (code,) = re.findall(rf"```{language}\n(.*?)```", SIGNATURES, re.DOTALL)
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    for name, content in files.items():
        (tmp_path / name).write_text(content(code))
    done = subprocess.run(
        command, cwd=tmp_path, input=calls_as_lines(received), capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["true"] + ["false"] * 7, done.stderr
