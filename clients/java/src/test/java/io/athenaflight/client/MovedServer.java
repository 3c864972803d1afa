package io.athenaflight.client;

import io.athenaflight.client.FlightDataException.Unavailable;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Asks a server by a name whose address changes meanwhile: {@code MovedServer URL HOSTS}. Prints how many datasets there
 * are before and after. Driven by tests/clients/test_java.py; a program, because Java reads its settings of names once.
 */
public final class MovedServer {
  private static final String NAME = "flight.example";
  // Another address of this machine, where something else stands for the server at first.
  private static final String FIRST = "127.0.0.2";
  private static final String SECOND = "127.0.0.1";

  private MovedServer() {}

  public static void main(String[] args) throws IOException {
    URI url = URI.create(args[0]);
    Path hosts = Path.of(args[1]);
    System.setProperty("jdk.net.hosts.file", hosts.toString());
    java.security.Security.setProperty("networkaddress.cache.ttl", "0");
    System.setProperty("networkaddress.cache.ttl", "0");
    Files.writeString(hosts, FIRST + " " + NAME + "\n127.0.0.1 localhost\n");
    Forwarder first = Forwarder.at(FIRST, args[0]);
    try (FlightDataClient client = FlightDataClient.connect("grpc://" + NAME + ":" + url.getPort())) {
      System.out.println(client.datasets().size() + " by " + first.connections());
      Files.writeString(hosts, SECOND + " " + NAME + "\n127.0.0.1 localhost\n");
      first.close();
      System.out.println(found(client));
    }
  }

  /** A call that begins just as its connection ends is told that there is no answer; the next one has a new connection. */
  private static int found(FlightDataClient client) {
    for (int tries = 1; ; tries++) {
      try {
        return client.datasets().size();
      } catch (Unavailable error) {
        if (tries == 5) {
          throw error;
        }
      }
    }
  }
}
