"""A fault proxy for HTTP on loopback: what a bad line, a captive portal or a dying server do to requests.

    p = Proxy(server_port, seed); p.start(); ... client talks to p.port ...; p.stop()

`p.rules` is a list of (fault, probability): each request draws once. `p.next_faults.append(fault)` hits the next request
that `p.wants(request)` names. `p.partition(how)` cuts the line altogether (how: "refuse" or "hole") until `p.heal()`.

    drop        the request does not arrive, the connection closes
    lost        it arrives, the answer does not
    cut         the answer stops after some bytes
    delay       the request waits before it is passed on
    slow        the answer waits
    late        the connection closes at once, and the request arrives later all the same
    twice       it arrives twice; the client gets the second answer
    swap        it is overtaken by the next request
    garble      the answer's body is damaged (JSON only: integrity of content on the way is TLS's)
    error500, error502, busy     the answer is an error: of the server, of something between (HTML), 503 with Retry-After
    portal      200 and a login page
    hole        nothing comes back for a while

`p.latency` is how many seconds each request and each answer may take on the way, beside all that.

`p.seen` has every request that reached the server, with the answer it gave, whoever heard it (status 0: none): `Exchange` objects in the order
of the answers. `p.rewrite`, if set, changes a request before it is passed on: a place to plant bugs in. `seen` then has the request as it
came, or with `p.tells_rewritten` as it was passed on.
"""
import asyncio
import random
import threading

FAULTS = ("drop", "lost", "cut", "delay", "slow", "late", "twice", "swap", "garble", "error500", "error502", "busy",
          "portal", "hole")
HOLE_S = 0.3
LINE_S = 120


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body

    def bytes(self):
        head = f"{self.method} {self.target} HTTP/1.1\r\n"
        for name, value in self.headers:
            if name.lower() not in ("expect", "transfer-encoding", "content-length", "connection"):
                head += f"{name}: {value}\r\n"
        if self.body or self.method in ("PUT", "POST", "PATCH"):
            head += f"Content-Length: {len(self.body)}\r\n"
        return (head + "Connection: close\r\n\r\n").encode("latin-1") + self.body

    def header(self, name):
        for k, v in self.headers:
            if k.lower() == name.lower():
                return v
        return None

    @property
    def mutates(self):
        return self.method in ("PUT", "PATCH", "DELETE") or self.target.endswith("/batch")


class Exchange:
    def __init__(self, request, status, headers, body):
        self.request, self.status, self.headers, self.body = request, status, headers, body


async def read_head(reader):
    """(first line, headers), or None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    return lines[0], [tuple(x.strip() for x in line.split(":", 1)) for line in lines[1:] if line]


async def read_chunked(reader):
    body = b""
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        body += await reader.readexactly(size)
        await reader.readline()
        if not size:
            return body


async def read_body(reader, headers, to_end):
    h = {k.lower(): v for k, v in headers}
    if h.get("transfer-encoding", "").lower() == "chunked":
        return await read_chunked(reader)
    if "content-length" in h:
        return await reader.readexactly(int(h["content-length"]))
    return await reader.read() if to_end else b""


class Proxy:
    def __init__(self, server_port, seed=0):
        self.server_port = server_port
        self.random = random.Random(seed)
        self.rules, self.next_faults, self.seen = [], [], []
        self.wants = lambda request: True
        self.rewrite, self.tells_rewritten = None, False
        self.cut = None
        self.latency = 0
        self.slow_s = 0.2
        self.hits = {}
        self.tasks = set()
        self.waiting = None  # of `swap`
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.ready = threading.Event()
        self.thread.start()
        self.ready.wait()
        return self

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def partition(self, how="refuse"):
        self.cut = how
        self.loop.call_soon_threadsafe(self._hang_up)

    def heal(self):
        self.cut = None
        self.rules, self.next_faults = [], []

    def _hang_up(self):
        for t in list(self.tasks):
            t.cancel()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 24))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        server.close()
        self._hang_up()
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        self.loop.close()

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            while not self.cut and await self._one(reader, writer):
                pass
            if self.cut == "hole":
                await asyncio.sleep(HOLE_S)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            pass
        finally:
            self.tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader, writer):
        head = await read_head(reader)
        if not head:
            return False
        method, target, _ = head[0].split(" ", 2)
        if any(k.lower() == "expect" for k, _ in head[1]):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = Request(method, target, head[1], await read_body(reader, head[1], False))
        fault = self._draw(request)
        if fault:
            self.hits[fault] = self.hits.get(fault, 0) + 1
        return await getattr(self, "_" + fault if fault else "_pass")(request, writer)

    def _draw(self, request):
        if self.next_faults and self.wants(request):
            return self.next_faults.pop(0)
        for fault, chance in self.rules:
            if self.random.random() < chance:
                return fault
        return None

    async def _ask(self, request):
        """The server's answer: (bytes, exchange)."""
        sent = self.rewrite(request) if self.rewrite else request
        await self._travel()
        exchange = Exchange(sent if self.tells_rewritten else request, 0, [], b"")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server_port, limit=1 << 24)
        try:
            writer.write(sent.bytes())
            await writer.drain()
            head = await asyncio.wait_for(read_head(reader), LINE_S)
            while head and head[0].split(" ")[1] == "100":
                head = await read_head(reader)
            if not head:
                raise ConnectionError
            status = int(head[0].split(" ")[1])
            bare = request.method == "HEAD" or status in (204, 304)
            body = b"" if bare else await asyncio.wait_for(read_body(reader, head[1], True), LINE_S)
            exchange.status, exchange.headers, exchange.body = status, head[1], body
        finally:
            writer.transport.abort()
            self.seen.append(exchange)
        await self._travel()
        return self._print(exchange, bare), exchange

    async def _travel(self):
        if self.latency:
            await asyncio.sleep(self.random.random() ** 4 * self.latency)

    @staticmethod
    def _print(e, bare):
        out = f"HTTP/1.1 {e.status} X\r\n"
        for name, value in e.headers:
            if name.lower() not in ("transfer-encoding", "connection") and (bare or name.lower() != "content-length"):
                out += f"{name}: {value}\r\n"
        if not bare:
            out += f"Content-Length: {len(e.body)}\r\n"
        return (out + "\r\n").encode("latin-1") + e.body

    # --- what becomes of a request; False ends the connection ---

    async def _pass(self, request, writer):
        if self.waiting and not self.waiting.done():
            self.loop.call_later(0.01, lambda w=self.waiting: w.done() or w.set_result(None))
        writer.write((await self._ask(request))[0])
        await writer.drain()
        return True

    async def _drop(self, request, writer):
        return False

    async def _lost(self, request, writer):
        await self._ask(request)
        return False

    async def _cut(self, request, writer):
        data, _ = await self._ask(request)
        writer.write(data[:self.random.randrange(len(data))])
        await writer.drain()
        return False

    async def _delay(self, request, writer):
        await asyncio.sleep(self.random.random() * 0.2)
        return await self._pass(request, writer)

    async def _slow(self, request, writer):
        data, _ = await self._ask(request)
        await asyncio.sleep(self.random.random() * self.slow_s)
        writer.write(data)
        await writer.drain()
        return True

    async def _late(self, request, writer):
        writer.transport.abort()
        await asyncio.sleep(self.random.random() * 0.3)
        await self._ask(request)
        return False

    async def _twice(self, request, writer):
        await self._ask(request)
        return await self._pass(request, writer)

    async def _swap(self, request, writer):
        self.waiting = self.loop.create_future()
        await asyncio.wait([self.waiting], timeout=0.2)
        return await self._pass(request, writer)

    async def _garble(self, request, writer):
        data, e = await self._ask(request)
        if e.body and any(k.lower() == "content-type" and "json" in v for k, v in e.headers):
            at = len(data) - len(e.body) + self.random.randrange(len(e.body))
            data = data[:at] + b"\xff" + data[at + 1:]
        writer.write(data)
        await writer.drain()
        return True

    async def _say(self, writer, status, kind, body, more=""):
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        return True

    async def _error500(self, request, writer):
        return await self._say(writer, 500, "application/json", "{}")

    async def _error502(self, request, writer):
        return await self._say(writer, 502, "text/html", "<html>bad gateway</html>")

    async def _busy(self, request, writer):
        return await self._say(writer, 503, "text/html", "busy", "Retry-After: 1\r\n")

    async def _portal(self, request, writer):
        return await self._say(writer, 200, "text/html", "<html><form action=/login></form></html>")

    async def _hole(self, request, writer):
        await asyncio.sleep(HOLE_S)
        return False
