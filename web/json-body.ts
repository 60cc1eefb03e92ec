/** JSON bodies of requests. */

import express, { type RequestHandler } from 'express';

/** Parses the body as JSON whatever its Content-Type says; longer than `maxBytes` is 413, not JSON is 400. */
export function jsonBody(maxBytes: number): RequestHandler {
  return express.json({ limit: maxBytes, type: () => true, inflate: false });
}
