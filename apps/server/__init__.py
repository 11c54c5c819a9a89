"""The HTTP server: `plait serve`. Needs the extra `serve` (starlette, uvicorn), which is loaded only here."""
