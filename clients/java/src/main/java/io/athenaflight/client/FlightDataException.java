package io.athenaflight.client;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.function.BiFunction;

/**
 * What can go wrong, split by who can act on it.
 *
 * <pre>
 * FlightDataException      code + one-line message
 * ├── RequestError         the request can be mended
 * │   ├── InvalidRequest     bad value, unknown or missing parameter, refused SQL, a limit, an expired ticket
 * │   ├── NotFound           no such dataset, version, query or pin, for this caller
 * │   ├── Unauthenticated    the credential is missing, wrong or expired
 * │   ├── Denied             the caller is known and may not do this
 * │   └── Unsupported        the server, or this client, has no such function
 * ├── Unavailable          asking again later can work
 * ├── TimedOut             the query, or a wait for one, took too long
 * ├── Cancelled            somebody stopped the query, or interrupted the thread that waited
 * └── ServerError          the engine, the data or the server failed
 * </pre>
 *
 * <p>{@link #code()} is the server's stable code (docs/protocol.md), or one of five that only a client can know: {@code
 * unreachable} (no connection), {@code connection-lost} (the stream broke off), {@code incomplete} (fewer or more rows
 * than the server counted), {@code out-of-memory} (the allocator of this client has no more) and {@code unexpected} (an
 * answer without a code: not an athena-flight server, or something between).
 */
public abstract sealed class FlightDataException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private static final Map<String, BiFunction<String, String, FlightDataException>> CLASSES = new HashMap<>();

  static {
    register(
        InvalidRequest::new,
        "bad-request unknown-parameter missing-parameter bad-parameter rule-violated sql-refused scan-limit row-limit"
            + " bad-ticket expired-ticket");
    register(NotFound::new, "unknown-dataset unknown-version unknown-query unknown-pin");
    register(Unauthenticated::new, "no-credential bad-credential expired-credential");
    register(Denied::new, "not-allowed budget-spent");
    register(Unsupported::new, "unsupported");
    register(Unavailable::new, "busy draining engine-throttled unreachable connection-lost out-of-memory");
    register(TimedOut::new, "timeout");
    register(Cancelled::new, "cancelled");
    register(ServerError::new, "engine-failed contract-violated internal incomplete unexpected");
  }

  private final String code;
  private final String said;

  private FlightDataException(String code, String message) {
    super("[" + code + "] " + message);
    this.code = code;
    this.said = message;
  }

  /** The stable code, for programs. */
  public final String code() {
    return code;
  }

  /** One line for a person, without the code; {@link #getMessage()} has both. */
  public final String said() {
    return said;
  }

  /** The exception of a code that this release knows; {@code otherwise} for one of a newer server. */
  static FlightDataException of(
      String code, String message, BiFunction<String, String, FlightDataException> otherwise) {
    return CLASSES.getOrDefault(code, otherwise).apply(code, message);
  }

  static Set<String> codes() {
    return CLASSES.keySet();
  }

  private static void register(BiFunction<String, String, FlightDataException> kind, String codes) {
    for (String code : codes.split(" ")) {
      CLASSES.put(code, kind);
    }
  }

  /** Asking again unchanged gives the same answer. */
  public abstract static sealed class RequestError extends FlightDataException {
    private static final long serialVersionUID = 1L;

    private RequestError(String code, String message) {
      super(code, message);
    }
  }

  /** The request is malformed, or a value in it breaks the dataset's contract. */
  public static final class InvalidRequest extends RequestError {
    private static final long serialVersionUID = 1L;

    InvalidRequest(String code, String message) {
      super(code, message);
    }
  }

  /** What was named does not exist for this caller. */
  public static final class NotFound extends RequestError {
    private static final long serialVersionUID = 1L;

    NotFound(String code, String message) {
      super(code, message);
    }
  }

  /** The credential is missing, wrong or expired. */
  public static final class Unauthenticated extends RequestError {
    private static final long serialVersionUID = 1L;

    Unauthenticated(String code, String message) {
      super(code, message);
    }
  }

  /** The caller is known and may not do this. */
  public static final class Denied extends RequestError {
    private static final long serialVersionUID = 1L;

    Denied(String code, String message) {
      super(code, message);
    }
  }

  /** The server, or this client, has no such function. */
  public static final class Unsupported extends RequestError {
    private static final long serialVersionUID = 1L;

    Unsupported(String code, String message) {
      super(code, message);
    }
  }

  /** Nothing is wrong with the request; trying again later can work. */
  public static final class Unavailable extends FlightDataException {
    private static final long serialVersionUID = 1L;

    Unavailable(String code, String message) {
      super(code, message);
    }
  }

  /** The query, or a wait for one, took too long. */
  public static final class TimedOut extends FlightDataException {
    private static final long serialVersionUID = 1L;

    TimedOut(String code, String message) {
      super(code, message);
    }
  }

  /** The query was stopped, or the thread that waited for it was interrupted. */
  public static final class Cancelled extends FlightDataException {
    private static final long serialVersionUID = 1L;

    Cancelled(String code, String message) {
      super(code, message);
    }
  }

  /** The request was fine; the engine, the data or the server was not. */
  public static final class ServerError extends FlightDataException {
    private static final long serialVersionUID = 1L;

    ServerError(String code, String message) {
      super(code, message);
    }
  }
}
