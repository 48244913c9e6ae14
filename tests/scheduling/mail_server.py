"""An SMTP server on loopback that keeps what it is given, or refuses it, as a test wants."""

import socketserver
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class MailServer:
    """refuses: the reply to a message, instead of taking it."""

    refuses: str = ""
    messages: list[EmailMessage] = field(default_factory=list)

    def __enter__(self) -> "MailServer":
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        mail_server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.say("220 loopback")
                while line := self.rfile.readline().decode().strip():
                    verb = line.split(" ")[0].upper()
                    if verb == "DATA":
                        self.say("354 go on")
                        self.take()
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 ok")

            def take(self) -> None:
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line)
                if mail_server.refuses:
                    self.say(mail_server.refuses)
                    return
                mail_server.messages.append(message_from_bytes(b"".join(lines), policy=policy.default))
                self.say("250 taken")

            def say(self, reply: str) -> None:
                self.wfile.write(f"{reply}\r\n".encode())

        return Handler
