package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.athenaflight.client.FlightDataException.Denied;
import io.athenaflight.client.FlightDataException.InvalidRequest;
import io.athenaflight.client.FlightDataException.NotFound;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Pins and receipts: what an answer was made from, named and asked for again. */
@Timeout(60)
class PinsTest {
  private static final Request NAMES = Request.of("public_names", Map.of());

  @Test
  void aReceiptIsThereAtTheEndAndReadsTheSameAgain() {
    try (FlightDataClient client = alice()) {
      BatchStream left = client.stream(NAMES);
      assertTrue(left.hasNext());
      assertEquals(Optional.empty(), left.receipt());
      left.close();
      assertEquals(Optional.empty(), left.receipt());
      String said = receipt(client, NAMES);
      assertEquals(said, receipt(client, NAMES.withAsOf(said)));
      assertEquals("unknown-pin", assertThrows(NotFound.class, () -> receipt(client, NAMES.withAsOf("r1.x"))).code());
    }
  }

  @Test
  void aPinIsMadeListedReadAndRemoved() {
    try (FlightDataClient client = alice();
        FlightDataClient operator =
            FlightDataClient.builder(Servers.said("pinned")).token(Servers.said("operator")).connect()) {
      Map<String, Long> made = operator.pin("month-end", List.of("p.open"));
      assertEquals(client.plan(NAMES).snapshots(), made);
      assertEquals(made, operator.pin("plan", client.plan(NAMES).snapshots()));
      assertEquals(Map.of("month-end", made, "plan", made), client.pins());
      assertEquals(receipt(client, NAMES), receipt(client, NAMES.withAsOf("month-end")));
      assertEquals(made, operator.unpin("plan"));
      assertEquals("unknown-pin", assertThrows(NotFound.class, () -> operator.unpin("plan")).code());
      assertThrows(NotFound.class, () -> receipt(client, NAMES.withAsOf("plan")));
      assertThrows(Denied.class, () -> client.pin("mine", List.of("p.open")));
      assertThrows(InvalidRequest.class, () -> operator.pin("2024-01-31", List.of("p.open")));
    }
  }

  private static FlightDataClient alice() {
    return FlightDataClient.builder(Servers.said("pinned")).token(Servers.said("token")).connect();
  }

  private static String receipt(FlightDataClient client, Request request) {
    try (BatchStream rows = client.stream(request)) {
      rows.forEachRemaining(batch -> {});
      return rows.receipt().orElseThrow();
    }
  }
}
