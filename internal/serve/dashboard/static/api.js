// Calls of the JSON API. The token is typed once and kept for this tab; it travels in a header
// and nowhere else.

const KEY = "zael-token";

let token = sessionStorage.getItem(KEY) ?? "";

export const signedIn = () => token !== "";

export function setToken(value) {
  token = value;
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

// A Problem is an answer that is no success, or that no answer came.
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `status ${status}`);
    this.status = status;
    this.code = body.error ?? "";
    this.field = body.field ?? "";
  }
}

async function call(method, path, {query, body, signal, as} = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== "" && value !== undefined && value !== null) parameters.set(name, value);
  }
  const headers = {};
  const bearer = as ?? token;
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`/v1${path}${parameters.size > 0 ? `?${parameters}` : ""}`, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, {detail: "The server does not answer."});
  }
  if (response.status === 204) return null;
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, value);
  return value;
}

export const get = (path, query, options) => call("GET", path, {query, ...options});
export const put = (path, body, query) => call("PUT", path, {body, query});
export const post = (path, body) => call("POST", path, {body});
export const remove = (path, query) => call("DELETE", path, {query});

// segment escapes a name for a path. A browser takes one or two dots for a folder, escaped or
// not.
export function segment(name) {
  if (name === "." || name === "..") throw new Problem(400, {detail: `A browser cannot send the name ${name}: ask the API in another way.`});
  return encodeURIComponent(name);
}

// scopePath returns the path of a scope, and its query.
export function scopePath({entity_id: entity, resource}) {
  if (entity) return [`/entities/${segment(entity)}`, {resource}];
  return [resource ? `/resources/${segment(resource)}` : "/system", {}];
}
