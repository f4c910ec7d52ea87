// Opens record envelopes with nothing but WebCrypto: open_envelopes.mjs KEY-HEX < array > plaintexts
import { readFileSync } from "node:fs";

const bytes = base64 => Uint8Array.from(atob(base64), c => c.charCodeAt(0));
const subtle = globalThis.crypto.subtle;

// RFC 8785, for an object of strings and integers.
function canonical(meta) {
	const names = ["id", "table", "tenant", "user", "version"].filter(name => name in meta);
	return new TextEncoder().encode(JSON.stringify(Object.fromEntries(names.map(n => [n, meta[n]]))));
}

async function open(envelope, key) {
	if (envelope.v === 1)
		return subtle.decrypt({ name: "AES-GCM", iv: bytes(envelope.iv) }, key, bytes(envelope.ct));
	const { alg, iv, ct, tag } = envelope.enc, sealed = new Uint8Array([...bytes(ct), ...bytes(tag)]);
	if (alg !== "A256GCM")
		throw new Error(`cannot open ${alg}`);
	return subtle.decrypt({ name: "AES-GCM", iv: bytes(iv), additionalData: canonical(envelope.meta) }, key, sealed);
}

const raw = Uint8Array.from(process.argv[2].match(/../g), pair => parseInt(pair, 16));
const key = await subtle.importKey("raw", raw, "AES-GCM", false, ["decrypt"]);
const out = [];
for (const envelope of JSON.parse(readFileSync(0, "utf8")))
	out.push(new TextDecoder().decode(await open(envelope, key)));
console.log(JSON.stringify(out));
