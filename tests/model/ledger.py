"""What the server was asked to do and did, read from the proxies' exchanges, and what must be true of it.

Each acknowledged change of a record has a number (`seq`) and an ETag that begins with it. The changes, each once, in the order
of these numbers, are the order of which the server's final state must be the result.
"""
import base64
import hashlib
import json


class Change:
    """One row of the feed: the state a key gave a record."""

    def __init__(self, key, client, op, record, direct):
        self.key, self.client, self.op, self.record, self.direct = key, client, op, record, direct
        self.seq = record["seq"]

    def __repr__(self):
        r = self.record
        return f"{self.seq}: {self.client} {self.op['op']} {r['id'][:6]} {r.get('parent', '-')[:6]}/{r.get('name', '-')}" \
               f"{' deleted' if r.get('deleted') else ''} if {self.op['if_match']} key {self.key[:8]}"


def _single(request):
    """A request of its own as one operation of a batch."""
    h = request.header
    op = {"id": request.target.rsplit("/", 1)[1], "key": h("Idempotency-Key"), "if_match": h("If-Match")}
    op["op"] = {"PUT": "put", "PATCH": "patch", "DELETE": "delete"}[request.method]
    if request.method == "PATCH":
        op.update(json.loads(request.body))
    if request.method == "PUT":
        op["text"], op["from"] = request.body, int(h("Cachet-Offset") or 0)
        for header, name in (("Cachet-Parent", "parent"), ("Cachet-Kind", "kind")):
            if h(header):
                op[name] = h(header)
    return op


def asked(request):
    """The operations that a mutation asks for."""
    if not request.target.endswith("/batch"):
        return [_single(request)]
    ops = json.loads(request.body)["ops"]
    for op in ops:
        op.setdefault("if_match", None)
        if op["op"] == "put":
            op["text"] = base64.b64decode(op.get("content", ""))
            op["from"] = 0
    return ops


def operations(exchange, ops):
    """[(operation, status, answer)] of a mutation that was answered."""
    try:
        answer = json.loads(exchange.body)
    except ValueError:
        return []
    if not exchange.request.target.endswith("/batch"):
        return [(ops[0], exchange.status, answer)]
    out = []
    for op, result in zip(ops, answer.get("results", [])):
        out.append((op, result["status"], result.get("record", {}) if "record" in result else result))
        if "record" in result:
            out[-1][2].update({k: result[k] for k in ("replaced", "swapped") if k in result})
    return out


class Ledger:
    def __init__(self):
        self.changes = {}  # seq -> Change
        self.by_key = {}
        self.echoes = {}   # seq -> key, from feeds
        self.etags = {}    # etag -> sha256
        self.texts = {}    # sha256 -> a JSON text that was sent
        self.bodies = {}   # key -> a body that was sent whole, and perhaps cut off by a partition
        self.faults = []
        self.conflicts = 0

    def fault(self, text):
        self.faults.append(text)

    def read(self, client, exchange):
        if exchange.request.mutates:
            ops = asked(exchange.request)
            for op in ops:  # what was sent may stand although nobody heard the answer
                if op["op"] == "put":
                    self._sent(op, op.pop("text"))
            for op, status, answer in operations(exchange, ops):
                if 200 <= status < 300:
                    self._applied(client, op, answer)
                self.conflicts += status in (409, 412)
        elif "/changes" in exchange.request.target and exchange.status == 200:
            for r in json.loads(exchange.body)["changes"]:
                if "key" in r:
                    self.echoes[r["seq"]] = r["key"]
                if "sha256" in r:
                    self.etags[r["etag"]] = r["sha256"]

    def _sent(self, op, text):
        """An upload that was cut off goes on where it ended."""
        if op["from"]:
            text = self.bodies.get(op["key"], b"")[:op["from"]] + text
        self.bodies[op["key"]] = text
        op["sha256"] = hashlib.sha256(text).hexdigest()
        if text[:1] == b"{":
            self.texts[op["sha256"]] = text.decode()

    def _applied(self, client, op, answer):
        key = op["key"]
        rows = [(answer, True)] + [(answer[k], False) for k in ("replaced", "swapped") if k in answer]
        states = sorted(r["seq"] for r, _ in rows)
        if key in self.by_key:
            if self.by_key[key] != states:
                self.fault(f"twice: key {key} made {self.by_key[key]} and {states}")
            return
        self.by_key[key] = states
        for record, direct in rows:
            if record["seq"] in self.changes:
                self.fault(f"two keys made change {record['seq']}")
            self.changes[record["seq"]] = Change(key, client, op, record, direct)
            if "sha256" in record:
                self.etags[record["etag"]] = record["sha256"]

    # --- at the end ---

    def check(self, final, last_seq, may_miss):
        """`final`: the live records by id. `may_miss`: the server was killed, some answers nobody saw."""
        for seq, key in self.echoes.items():
            if seq in self.changes and self.changes[seq].key != key:
                self.fault(f"the feed says that {key} made change {seq}, the answer {self.changes[seq].key}")
        missing = [n for n in range(1, last_seq + 1) if n not in self.changes]
        if any(n not in self.echoes for n in missing) and not may_miss:
            self.fault(f"changes that nobody asked for: {missing}")
        self._replay(final, missing)

    def _replay(self, final, missing):
        records = {}
        for seq in sorted(self.changes):
            c = self.changes[seq]
            rid, old = c.record["id"], records.get(c.record["id"])
            unseen = [n for n in missing if n < seq and (not old or n > old["seq"])]
            if not unseen:
                self._condition(c, old)
            if c.direct and c.op["op"] == "put" and c.op.get("kind", "file") == "file" and \
                    c.record.get("sha256") != c.op["sha256"]:
                self.fault(f"{c}: the content is not what was sent")
            if c.direct and c.op["op"] != "delete" and c.op.get("parent", c.record["parent"]) != c.record["parent"]:
                self.fault(f"{c}: it does not stand where it was put")
            records[rid] = c.record
        last = {r: c for r, c in records.items() if not c.get("deleted")}
        for rid in set(last) | set(final):
            a, b = last.get(rid), final.get(rid)
            newest = max((x["seq"] for x in (a, b) if x), default=0)
            if b and b["seq"] in missing or any(n > newest for n in missing) and not b:
                continue
            for member in ("seq", "parent", "name", "kind", "sha256", "mode"):
                if (a or {}).get(member) != (b or {}).get(member):
                    self.fault(f"{rid[:6]}: {member} is {(b or {}).get(member)}, acknowledged was {(a or {}).get(member)}")

    def _condition(self, c, old):
        """Every change is based on the state before it (promise P4)."""
        based_on = c.op["if_match"] if c.direct else (c.op.get("replaces") or c.op.get("swap") or {}).get("etag")
        if not c.direct and not based_on:  # headers of a PUT that replaces
            return
        current = old["etag"] if old and not old.get("deleted") else None
        if based_on != current:
            self.fault(f"{c}: was based on {based_on}, the record was at {current}")

    def resurrected(self, sha256, insisting):
        """
        Whether a content came back that a client replaced who had seen it: put again, under another key, after every record that
        had it was overwritten. (Deleted is another matter: an edit beats a deletion. So are the clients `insisting`: by their rule
        theirs counts, whatever others made of it.)
        """
        holders, had, overwritten = set(), False, False
        for seq in sorted(self.changes):
            c = self.changes[seq]
            rid = c.record["id"]
            if c.record.get("sha256") == sha256 and not c.record.get("deleted"):
                if rid not in holders and overwritten and not holders and c.client not in insisting:
                    return f"{c}: brings back what was overwritten"
                holders.add(rid)
                had = True
            elif rid in holders:
                holders.discard(rid)
                overwritten = had and not holders and not c.record.get("deleted")
        return None
