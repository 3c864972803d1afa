package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.Action;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.flight.grpc.StatusUtils;
import org.apache.arrow.memory.RootAllocator;
import org.junit.jupiter.api.Test;

/** The golden files hold for this client too. */
class GoldenTest {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  record Case(
      String name,
      Map<String, Object> json,
      Map<String, Object> args,
      String dataset,
      Integer version,
      String as_of,
      String engine,
      Map<String, Object> params) {}

  record Refused(String rpc, String request, String status, String code, String message) {}

  record Ticketed(String name, String ticket, String status, String code) {}

  record Tickets(String secret, List<Ticketed> tickets) {}

  @Test
  void requestsAreWrittenAndResolvedAsTheGoldenOnes() {
    try (FlightDataClient client = Servers.client()) {
      Case[] cases = Servers.golden("requests", Case[].class);
      assertTrue(cases.length >= 10);
      for (Case one : cases) {
        Map<String, Object> arguments = Typed.arguments(client.describe(one.dataset), one.args);
        Request request = new Request(one.dataset, arguments, one.version, one.as_of, one.engine);
        ObjectNode golden = MAPPER.valueToTree(one.json);
        // A client that leaves a null out means the same.
        ((ObjectNode) golden.get("params")).properties().removeIf(each -> each.getValue().isNull());
        assertEquals(golden, tree(request.toJson()), one.name);
        assertEquals(tree(one.params), tree(client.plan(request).params()), one.name);
      }
    }
  }

  @Test
  void errorsHaveTheGoldenStatusCodeAndMessage() throws InterruptedException {
    try (RootAllocator allocator = new RootAllocator();
        FlightClient raw = Servers.raw(allocator, Servers.said("url"))) {
      Refused[] cases = Servers.golden("errors", Refused[].class);
      assertTrue(cases.length >= 20);
      for (Refused one : cases) {
        FlightRuntimeException error =
            assertThrows(FlightRuntimeException.class, () -> call(raw, one.rpc, one.request), one.request);
        assertEquals(one.status, StatusUtils.toGrpcStatusCode(error.status().code()).name(), one.request);
        FlightDataException ours = Errors.fromWire(error, false);
        assertEquals(one.code, ours.code(), one.request);
        assertEquals(one.message, ours.said(), one.request);
      }
    }
  }

  @Test
  void ticketsAreRefusedWithTheirCodes() throws InterruptedException {
    try (RootAllocator allocator = new RootAllocator();
        FlightClient raw = Servers.raw(allocator, Servers.said("url"))) {
      Tickets golden = Servers.golden("tickets", Tickets.class);
      assertTrue(golden.tickets.stream().filter(one -> one.code != null).count() >= 5);
      for (Ticketed one : golden.tickets) {
        FlightRuntimeException error =
            assertThrows(FlightRuntimeException.class, () -> call(raw, "DoGet", one.ticket), one.name);
        FlightDataException ours = Errors.fromWire(error, false);
        if (one.code != null) {
          assertEquals(one.code, ours.code(), one.name);
          assertEquals(one.status, StatusUtils.toGrpcStatusCode(error.status().code()).name(), one.name);
        } else {
          // Its signature is good: what is wrong is found only behind it.
          assertTrue(!ours.code().equals("bad-ticket"), one.name);
        }
      }
    }
  }

  private static void call(FlightClient client, String rpc, String request) throws Exception {
    byte[] body = request.getBytes(StandardCharsets.UTF_8);
    switch (rpc) {
      case "DoGet" -> {
        try (FlightStream stream = client.getStream(new Ticket(body))) {
          stream.next();
        }
      }
      case "GetFlightInfo" -> client.getInfo(FlightDescriptor.command(body));
      case "GetSchema" -> client.getSchema(FlightDescriptor.command(body));
      default -> client.doAction(new Action(rpc, body)).hasNext();
    }
  }

  private static JsonNode tree(Object value) {
    return MAPPER.valueToTree(value);
  }
}
