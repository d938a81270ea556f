/** The bearer token of this tab. */

const NAME = "gateway.token";

/** The token of the address, which is then taken out of it, else the one this tab had before a reload. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(given);
  }
  return given ?? sessionStorage.getItem(NAME);
}

export function keepToken(token) {
  sessionStorage.setItem(NAME, token);
}

/** The key prefix a token is limited to, if it says so: keys must begin with it. */
export function prefixOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { prefix } = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(claims), (c) => c.charCodeAt(0))));
    return typeof prefix === "string" ? prefix : "";
  } catch {
    return ""; // not ours to judge: the gateway will
  }
}
