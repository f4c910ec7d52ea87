"""docs/openapi.yaml as data: its operations, with the schemas of what they take and answer."""
import json
import pathlib
import re

import jsonschema
import yaml

FILE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
METHODS = ("get", "head", "put", "patch", "post", "delete")
# Words that no schema can put into a test: base64 that is not of the length said, and so on, is the handlers' to refuse.
DIALECT = jsonschema.Draft202012Validator


class Spec:
    def __init__(self):
        self.doc = yaml.safe_load(FILE.read_text())
        # As JSON: the anchors of the file are expanded, and what is no JSON would show.
        self.doc = json.loads(json.dumps(self.doc))
        self.resolver = jsonschema.RefResolver("", self.doc)
        self.operations = [Operation(self, path, method, item[method], item.get("parameters", []))
                           for path, item in self.doc["paths"].items() for method in METHODS if method in item]

    def deref(self, node):
        while "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1]
        return node

    def errors(self, schema, value):
        return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}"
                for e in DIALECT(schema, resolver=self.resolver).iter_errors(value)]

    def schemas(self):
        """Every schema in the document."""
        def walk(node):
            if isinstance(node, dict):
                if isinstance(node.get("schema"), dict):
                    yield node["schema"]
                for v in node.values():
                    yield from walk(v)
            elif isinstance(node, list):
                for v in node:
                    yield from walk(v)
        yield from self.doc["components"]["schemas"].values()
        yield from walk(self.doc)

    def references(self):
        return set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(self.doc)))


class Operation:
    def __init__(self, spec, path, method, node, shared):
        self.spec, self.path, self.method, self.node = spec, path, method.upper(), node
        self.id = node["operationId"]
        self.parameters = [spec.deref(p) for p in shared + node.get("parameters", [])]
        content = spec.deref(node.get("requestBody", {})).get("content", {})
        self.body_type = next(iter(content), None)
        self.body_schema = content.get("application/json", {}).get("schema")

    def parameter_is_valid(self, parameter, text):
        """Whether the text is one the schema allows; None when the schema cannot say."""
        schema = self.spec.deref(parameter["schema"])
        if schema.get("type") == "object":
            return None
        if schema.get("type") == "integer":
            if not re.fullmatch("[0-9]+", text):
                return False
            text = int(text)
        return not self.spec.errors(schema, text)

    def faults(self, status, headers, body):
        """What of an answer is not as the document says."""
        responses = self.node["responses"]
        node = responses.get(str(status)) or (responses.get("default") if status >= 400 or self.method == "HEAD" else None)
        if not node:
            return [f"status {status} is not in the document"]
        node = self.spec.deref(node)
        found = []
        for name, header in node.get("headers", {}).items():
            header, value = self.spec.deref(header), headers.get(name.lower())
            if value is None:
                found += [f"no {name}"] if header.get("required") else []
            else:
                schema = self.spec.deref(header["schema"])
                found += self.spec.errors(schema, int(value) if schema.get("type") == "integer" else value)
        content = node.get("content", {})
        if self.method == "HEAD" or not content:
            return found + ([] if not body else ["a body where there is none"])
        kind = headers.get("content-type")
        if kind not in content:
            return found + [f"{kind} is not one of its types"]
        if "json" not in kind:
            return found
        try:
            value = json.loads(body)
        except ValueError:
            return found + ["not JSON"]
        schema = content[kind].get("schema")
        return found + (self.spec.errors(schema, value) if schema else [])
