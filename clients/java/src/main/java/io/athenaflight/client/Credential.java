package io.athenaflight.client;

import java.util.Map;
import java.util.function.Supplier;
import java.util.regex.Pattern;

/** What a call carries to say who asks: nothing, a bearer token, or the token that answers a password. Thread-safe. */
final class Credential {
  static final String AUTHORIZATION = "authorization";

  private static final Pattern TOKEN = Pattern.compile("[!-~ ]+");

  private final Supplier<String> token;
  private final Supplier<String> login;
  private volatile Map<String, String> session = Map.of();

  /**
   * @param token asked before each call; null where there is none
   * @param login answers the whole header, and waits for the server; null where there is none
   */
  Credential(Supplier<String> token, Supplier<String> login) {
    this.token = token;
    this.login = login;
    if (login != null) {
      renewed(session);
    }
  }

  Map<String, String> headers() {
    if (token == null) {
      return session;
    }
    String found = token.get();
    if (found == null) {
      throw new IllegalStateException("the supplier of tokens gave none");
    }
    // Files of tokens end with a line end, which no header may hold.
    String bearer = found.strip();
    if (!TOKEN.matcher(bearer).matches()) {
      // gRPC would log it, and leave the header out.
      throw new IllegalStateException(bearer.isEmpty() ? "the token is empty" : "the token has signs that no header can hold");
    }
    return Map.of(AUTHORIZATION, "Bearer " + bearer);
  }

  /**
   * Whether there are other headers now than those that have expired. Of many threads that meet the end of a session one
   * logs in, and the others wait for it: each check of a password takes a core of the server.
   */
  boolean renewed(Map<String, String> used) {
    if (login == null) {
      return !headers().equals(used);
    }
    synchronized (this) {
      if (session == used) {
        session = Map.of(AUTHORIZATION, login.get());
      }
    }
    return true;
  }
}
