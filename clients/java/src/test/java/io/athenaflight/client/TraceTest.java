package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.annotation.JsonProperty;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.context.Scope;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The server's spans, as its collector received them, stand in the trace of the program that asks. */
@Timeout(60)
class TraceTest {
  record Seen(
      @JsonProperty("name") String name,
      @JsonProperty("trace") String trace,
      @JsonProperty("parent") String parent) {}

  private static final Map<String, Object> FEBRUARY = Map.of("ticker", "IBM", "start_date", "2013-02-26");

  @Test
  void whatOpenTelemetryIsInGoesOn() throws Exception {
    SpanContext here = context();
    try (FlightDataClient client = FlightDataClient.connect(Servers.said("traced"))) {
      try (Scope scope = Span.wrap(here).makeCurrent();
          BatchStream prices = client.stream("daily_prices", FEBRUARY)) {
        assertEquals(4, prices.next().getRowCount());
      }
      Servers.until(() -> below(here).equals(List.of("DoGet", "GetFlightInfo")));
    }
  }

  @Test
  void aStreamIsInTheTraceOfWhoAskedForIt() throws Exception {
    SpanContext here = context();
    try (FlightDataClient client = FlightDataClient.connect(Servers.said("traced"))) {
      BatchStream prices;
      try (Scope scope = Span.wrap(here).makeCurrent()) {
        prices = client.stream("daily_prices", FEBRUARY);
      }
      assertTrue(CompletableFuture.supplyAsync(prices::hasNext).get());
      prices.close();
      Servers.until(() -> below(here).contains("DoGet"));
    }
  }

  @Test
  void outsideOfATraceTheServerBeginsOne() throws Exception {
    try (FlightDataClient client = FlightDataClient.connect(Servers.said("traced"))) {
      client.datasets();
      Servers.until(
          () -> seen().anyMatch(span -> span.name().equals("ListFlights") && span.parent().isEmpty()));
    }
  }

  @Test
  void anotherTracerSaysItsHeadersItself() throws Exception {
    SpanContext here = context();
    String traceparent = "00-" + here.getTraceId() + "-" + here.getSpanId() + "-01";
    try (FlightDataClient client =
            FlightDataClient.builder(Servers.said("traced")).trace(() -> Map.of("traceparent", traceparent)).connect();
        Scope other = Span.wrap(context()).makeCurrent()) {
      assertEquals("duckdb", client.plan("daily_prices", FEBRUARY).engine());
      Servers.until(() -> below(here).equals(List.of("GetFlightInfo")));
    }
  }

  /** A place in a trace that nobody else has. */
  private static SpanContext context() {
    String random = UUID.randomUUID().toString().replace("-", "");
    TraceState state = TraceState.builder().put("desk", "rates").build();
    return SpanContext.create(random, random.substring(0, 16), TraceFlags.getSampled(), state);
  }

  /** The names of the spans that are children of one, in order. */
  private static List<String> below(SpanContext parent) {
    return seen()
        .filter(span -> span.trace().equals(parent.getTraceId()) && span.parent().equals(parent.getSpanId()))
        .map(Seen::name)
        .sorted()
        .toList();
  }

  private static Stream<Seen> seen() {
    try (InputStream answer = URI.create(Servers.said("collector")).toURL().openStream()) {
      return Arrays.stream(Values.decode(answer.readAllBytes(), Seen[].class));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
