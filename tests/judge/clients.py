"""The clients: how each is set up, embeds and fails. What all of them must show is in `Judge`."""

import base64
import struct
import time

import cohere
import mistralai.client
import mistralai.client.errors
import ollama
import openai
import voyageai
import voyageai.error
from google import genai
from google.genai import errors as google_errors
from mistralai.client.utils import BackoffStrategy, RetryConfig

from stub import KEY, tokens, vector

TEXTS = ["my parcel never arrived", "zwölf Boxkämpfer jagen Viktor", "\u4f60\u597d \U0001f4e6"]


def texts(count):
    return (TEXTS + [f"text number {n}" for n in range(count)])[:count]


def same(found, wanted, dimensions=None):
    """The vectors are those of these texts, in this order."""
    assert len(found) == len(wanted), f"{len(found)} vectors for {len(wanted)} texts"
    for place, (one, text) in enumerate(zip(found, wanted)):
        right = vector(text, dimensions) if dimensions else vector(text)
        assert len(one) == len(right), f"vector {place} has {len(one)} dimensions, not {len(right)}"
        worst = max(abs(a - b) for a, b in zip(one, right))
        assert worst < 1e-6, f"vector {place} differs by {worst}"


def unpacked(text):
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def raised(kind, call, status=None, words=()):
    """The call raises this and nothing else; gives what it says."""
    try:
        call()
    except kind as error:
        codes = [getattr(error, name, None) for name in ("status_code", "http_status", "code")]
        code = next((code for code in codes if isinstance(code, int)), None)
        assert status is None or code == status, f"{type(error).__name__} has the status {code}, not {status}"
        for word in words:
            assert word in str(error), f"{type(error).__name__} does not say {word!r}: {error}"
        return f"{type(error).__name__}"
    raise AssertionError(f"nothing was raised; {kind.__name__} should have been")


class Judge:
    """One client. A check is a method with a sentence; what it returns is printed beside the verdict."""

    name = package = None
    # The path of the base URL.
    path = ""
    # Most texts that its provider takes, and so the largest batch that is tried.
    most = 128
    # What the client raises, and the status if it is not the usual one.
    bad_key, too_many, rate_limited, failing = [(None, None)] * 4
    retries_on = (429, 503)

    def __init__(self, stub):
        self.stub = stub
        self.url = stub.base + self.path

    @classmethod
    def checks(cls):
        found = {}
        for kind in reversed(cls.__mro__):
            found |= {name: None for name in vars(kind) if name.startswith("check_")}
        return [getattr(cls, name) for name in found if getattr(cls, name)]

    def client(self, key=KEY, retries=0):
        raise NotImplementedError

    def embed(self, client, inputs, **besides):
        """The vectors, and the tokens if the answer tells them."""
        raise NotImplementedError

    def dimensions(self, count):
        return {"dimensions": count}

    def check_counts(self):
        """Embeds 1, 3 and many texts, each with its own vector."""
        client = self.client()
        for count in (1, 3, min(128, self.most)):
            found, used = self.embed(client, texts(count))
            same(found, texts(count))
            assert used is None or used == tokens(texts(count)), f"{used} tokens of {tokens(texts(count))}"
        return f"up to {min(128, self.most)}"

    def check_dimensions(self):
        """Asks for fewer dimensions and gets them."""
        found, _ = self.embed(self.client(), TEXTS, **self.dimensions(8))
        same(found, TEXTS, 8)
        assert self.stub.last()["dimensions"] == 8

    def check_key(self):
        """A wrong key is what its provider calls one."""
        kind, status = self.bad_key
        return raised(kind, lambda: self.embed(self.client(key="wrong"), TEXTS), status)

    def check_key_header(self):
        """Its key comes in the header where the server looks for it."""
        self.embed(self.client(), TEXTS)
        return self.stub.last()["key_header"]

    def check_too_many(self):
        """Too many texts are a bad request."""
        kind, status = self.too_many
        self.stub.call("limits", {"inputs_per_request": 2})
        return raised(kind, lambda: self.embed(self.client(), TEXTS), status)

    def check_rate_limit(self):
        """A rate limit without retries is raised as one."""
        kind, status = self.rate_limited
        self.stub.call("limits", {"requests_per_window": 1})
        client = self.client()
        self.embed(client, TEXTS)
        return raised(kind, lambda: self.embed(client, TEXTS), status)

    def check_failure(self):
        """A server that fails is raised as one."""
        kind, status = self.failing
        self.stub.status(500)
        return raised(kind, lambda: self.embed(self.client(), TEXTS), status)

    def check_retries(self):
        """Its own retries get over a 429 and a 503."""
        for code in self.retries_on:
            self.stub.call("reset", {})
            self.stub.status(code, {"retry-after": "1"})
            same(self.embed(self.client(retries=2), TEXTS)[0], TEXTS)
            statuses = [request["status"] for request in self.stub.requests()]
            assert statuses == [code, 200], f"{statuses}"


class OpenAI(Judge):
    name, package, path = "openai", "openai", "/v1"
    bad_key, too_many = (openai.AuthenticationError, 401), (openai.BadRequestError, 400)
    rate_limited, failing = (openai.RateLimitError, 429), (openai.InternalServerError, 500)

    def client(self, key=KEY, retries=0):
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=retries)

    def embed(self, client, inputs, **besides):
        answer = client.embeddings.create(model="m", input=inputs, **besides)
        assert answer.object == "list" and answer.model == "m"
        assert [item.index for item in answer.data] == list(range(len(inputs)))
        assert answer.usage.prompt_tokens == answer.usage.total_tokens
        return [item.embedding for item in answer.data], answer.usage.total_tokens

    def check_encodings(self):
        """Floats and base64 are the same vectors, also the ones it decodes itself."""
        client = self.client()
        same(self.embed(client, TEXTS, encoding_format="float")[0], TEXTS)
        same([unpacked(one) for one in self.embed(client, TEXTS, encoding_format="base64")[0]], TEXTS)
        same(self.embed(client, TEXTS)[0], TEXTS)

    def check_errors(self):
        """Every error is of the class and the code that the API documents."""
        client = self.client()
        embed = lambda **besides: self.embed(client, TEXTS, **besides)  # noqa: E731
        raised(openai.BadRequestError, lambda: embed(extra_body={"colour": "blue"}), 400, ["colour"])
        raised(openai.BadRequestError, lambda: self.embed(client, [""]), 400)
        self.stub.status(404)
        raised(openai.NotFoundError, embed, 404)
        self.stub.status(403)
        raised(openai.PermissionDeniedError, embed, 403)
        self.stub.status(422)
        raised(openai.UnprocessableEntityError, embed, 422)
        self.stub.call("limits", {"quota_tokens": 1})
        try:
            embed()
        except openai.RateLimitError as error:
            spent = error.code, error.type
        assert spent == ("insufficient_quota", "insufficient_quota")

    def check_retry_after(self):
        """It waits as long as it is told, in seconds, as a date and in milliseconds."""
        for how in ("seconds", "date", "millis"):
            self.stub.call("limits", {"requests_per_window": 1, "window_ms": 700, "retry_after": how})
            self.stub.call("reset", {})
            client = self.client(retries=2)
            start = time.monotonic()
            for _ in range(2):
                self.embed(client, TEXTS)
            took = time.monotonic() - start
            statuses = [request["status"] for request in self.stub.requests()]
            assert statuses == [200, 429, 200] and took >= 0.65, f"{how}: {statuses} in {took:.2f} s"

    def check_headers(self):
        """It finds the headers of the rate limits."""
        self.stub.call("limits", {"requests_per_window": 3, "tokens_per_window": 9000})
        answer = self.client().embeddings.with_raw_response.create(model="m", input=TEXTS)
        names = ("limit-requests", "remaining-tokens", "reset-requests")
        limit, left, reset = (answer.headers.get(f"x-ratelimit-{name}") for name in names)
        assert (limit, left) == ("3", str(9000 - tokens(TEXTS))), f"{limit}, {left}"
        return reset


class Azure(OpenAI):
    name, path = "azure", "/azure"

    def client(self, key=KEY, retries=0):
        return openai.AzureOpenAI(azure_endpoint=self.url, api_key=key, api_version="2024-10-21", max_retries=retries)

    def check_errors(self):
        """Every error is of the class that the gateway's status means."""
        client = self.client()
        raised(openai.BadRequestError, lambda: self.embed(client, [""]), 400)
        self.stub.status(404)
        try:
            self.embed(client, TEXTS)
        except openai.NotFoundError as error:
            missing = error.code
        assert missing == "DeploymentNotFound"
        self.stub.call("limits", {"quota_tokens": 1})
        raised(openai.PermissionDeniedError, lambda: self.embed(client, TEXTS), 403)


class Cohere(Judge):
    name, package, path, most = "cohere", "cohere", "/cohere", 96
    bad_key, too_many = (cohere.UnauthorizedError, 401), (cohere.BadRequestError, 400)
    rate_limited, failing = (cohere.TooManyRequestsError, 429), (cohere.InternalServerError, 500)

    def client(self, key=KEY, retries=0):
        return cohere.ClientV2(api_key=key, base_url=self.url, max_retries=retries)

    def embed(self, client, inputs, input_type="search_document", embedding_types=("float",), **besides):
        answer = client.embed(
            texts=inputs, model="m", input_type=input_type, embedding_types=list(embedding_types), **besides
        )
        assert answer.response_type == "embeddings_by_type" and answer.texts == inputs
        found = answer.embeddings.float_ or [unpacked(one) for one in answer.embeddings.base64]
        return found, int(answer.meta.billed_units.input_tokens)

    def dimensions(self, count):
        return {"output_dimension": count}

    def check_encodings(self):
        """Floats and base64 are the same vectors."""
        same(self.embed(self.client(), TEXTS, embedding_types=["base64"])[0], TEXTS)

    def check_kinds(self):
        """Documents and queries are told apart."""
        for word, kind in (("search_document", "document"), ("search_query", "query"), ("clustering", "other")):
            self.embed(self.client(), TEXTS, input_type=word)
            assert self.stub.last()["kind"] == kind
        raised(cohere.BadRequestError, lambda: self.embed(self.client(), TEXTS, input_type="document"), 400)

    def check_errors(self):
        """Every error is of the class that the API documents."""
        for code, kind in ((403, cohere.ForbiddenError), (404, cohere.NotFoundError),
                           (422, cohere.UnprocessableEntityError), (503, cohere.ServiceUnavailableError)):
            self.stub.status(code)
            raised(kind, lambda: self.embed(self.client(), TEXTS), code)


class Voyage(Judge):
    name, package, path = "voyage", "voyageai", "/voyage/v1"
    bad_key, too_many = (voyageai.error.AuthenticationError, 401), (voyageai.error.InvalidRequestError, 400)
    rate_limited, failing = (voyageai.error.RateLimitError, 429), (voyageai.error.ServerError, 500)

    def client(self, key=KEY, retries=0):
        # Here the number is of attempts.
        return voyageai.Client(api_key=key, base_url=self.url, max_retries=retries + 1)

    def embed(self, client, inputs, **besides):
        answer = client.embed(inputs, model="m", **besides)
        return answer.embeddings, answer.total_tokens

    def dimensions(self, count):
        return {"output_dimension": count}

    def check_kinds(self):
        """Documents and queries are told apart, and so is what is neither."""
        for word in ("document", "query", None):
            self.embed(self.client(), TEXTS, input_type=word)
            assert self.stub.last()["kind"] == word
        raised(voyageai.error.InvalidRequestError, lambda: self.embed(self.client(), TEXTS, input_type="passage"), 400)

    def check_truncation(self):
        """A text that is too long is cut, or refused where the client wants that."""
        self.stub.call("limits", {"tokens_per_input": 5})
        self.embed(self.client(), TEXTS)
        embed = lambda: self.embed(self.client(), TEXTS, truncation=False)  # noqa: E731
        return raised(voyageai.error.InvalidRequestError, embed, 400, ["too many tokens"])


class Mistral(Judge):
    name, package, path = "mistral", "mistralai", "/mistral"
    bad_key, too_many = (mistralai.client.errors.SDKError, 401), (mistralai.client.errors.SDKError, 400)
    rate_limited, failing = (mistralai.client.errors.SDKError, 429), (mistralai.client.errors.SDKError, 500)

    def client(self, key=KEY, retries=0):
        backoff = BackoffStrategy(initial_interval=50, max_interval=200, exponent=1.5, max_elapsed_time=20_000)
        retry = RetryConfig("backoff" if retries else "none", backoff, retry_connection_errors=False)
        return mistralai.client.Mistral(api_key=key, server_url=self.url, retry_config=retry)

    def embed(self, client, inputs, **besides):
        answer = client.embeddings.create(model="m", inputs=inputs, **besides)
        assert answer.object == "list" and answer.id
        assert [item.index for item in answer.data] == list(range(len(inputs)))
        return [item.embedding for item in answer.data], answer.usage.total_tokens

    def dimensions(self, count):
        return {"output_dimension": count}

    def check_errors(self):
        """What the schema refuses is a validation error; what the model refuses is none."""
        client = self.client()
        embed = lambda: self.embed(client, TEXTS, output_dtype="int8")  # noqa: E731
        raised(mistralai.client.errors.HTTPValidationError, embed, 422, ["output_dtype"])
        self.stub.status(404)
        return raised(mistralai.client.errors.SDKError, lambda: self.embed(client, TEXTS), 404, ["Invalid model"])


class Gemini(Judge):
    name, package, path, most = "gemini", "google-genai", "/gemini", 100
    bad_key, too_many = (google_errors.ClientError, 400), (google_errors.ClientError, 400)
    rate_limited, failing = (google_errors.ClientError, 429), (google_errors.ServerError, 500)

    def client(self, key=KEY, retries=0):
        retry = {"attempts": retries + 1, "initial_delay": 0.05, "max_delay": 0.2}
        return genai.Client(api_key=key, vertexai=False, http_options={"base_url": self.url, "retry_options": retry})

    def embed(self, client, inputs, **besides):
        answer = client.models.embed_content(model="gemini-embedding-001", contents=inputs, config=besides or None)
        return [one.values for one in answer.embeddings], None

    def dimensions(self, count):
        return {"output_dimensionality": count}

    def check_kinds(self):
        """Documents and queries are told apart, and so is what is neither."""
        for word, kind in (("RETRIEVAL_DOCUMENT", "document"), ("RETRIEVAL_QUERY", "query")):
            self.embed(self.client(), TEXTS, task_type=word)
            assert self.stub.last()["kind"] == kind
        self.embed(self.client(), TEXTS)
        assert self.stub.last()["kind"] is None

    def check_errors(self):
        """Errors carry Google's names for them."""
        raised(google_errors.ClientError, lambda: self.embed(self.client(key="wrong"), TEXTS), 400, ["API_KEY_INVALID"])
        for code, word in ((404, "NOT_FOUND"), (429, "RESOURCE_EXHAUSTED")):
            self.stub.status(code)
            raised(google_errors.ClientError, lambda: self.embed(self.client(), TEXTS), code, [word])


class Ollama(Judge):
    name, package = "ollama", "ollama"
    bad_key, too_many = (ollama.ResponseError, 401), (ollama.ResponseError, 400)
    rate_limited, failing = (ollama.ResponseError, 429), (ollama.ResponseError, 500)
    # This client has none.
    check_retries = None

    def client(self, key=KEY, retries=0):
        return ollama.Client(host=self.url, headers={"Authorization": f"Bearer {key}"})

    def embed(self, client, inputs, **besides):
        answer = client.embed(model="m", input=inputs, **besides)
        assert answer.model == "m"
        return answer.embeddings, answer.prompt_eval_count

    def check_empty(self):
        """One empty text is no vector, and no error."""
        assert list(self.client().embed(model="m", input="").embeddings) == []

    def check_truncation(self):
        """A text that is too long is cut, or refused where the client wants that."""
        self.stub.call("limits", {"tokens_per_input": 5})
        self.embed(self.client(), TEXTS)
        embed = lambda: self.embed(self.client(), TEXTS, truncate=False)  # noqa: E731
        return raised(ollama.ResponseError, embed, 400, ["context length"])


ALL = [OpenAI, Azure, Cohere, Voyage, Mistral, Gemini, Ollama]
