package io.athenaflight.client;

import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Supplier;

/** The trace that the program is in, as W3C headers: {@code traceparent}, and {@code tracestate} where it has one. */
final class Trace {
  private Trace() {}

  /** OpenTelemetry's current context, where the program has its API: an optional dependency of this client. */
  static Supplier<Map<String, String>> ofTheProgram() {
    try {
      Class.forName("io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator");
    } catch (ClassNotFoundException error) {
      return Map::of;
    }
    return OpenTelemetry::current;
  }

  // Java looks for the API's classes when this one is first used, and not before.
  private static final class OpenTelemetry {
    /** Not by the propagators of the program's choice: the server reads W3C's headers only. */
    static Map<String, String> current() {
      Map<String, String> found = new HashMap<>();
      W3CTraceContextPropagator.getInstance().inject(Context.current(), found, Map::put);
      return found;
    }
  }
}
