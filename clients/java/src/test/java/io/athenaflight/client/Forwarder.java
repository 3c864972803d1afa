package io.athenaflight.client;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/**
 * What stands between a client and its servers: each new connection goes to the next of them, the last one serves all that
 * follow. Connections that are there can fall silent, as behind a broken network.
 */
final class Forwarder implements AutoCloseable {
  private final ServerSocket listening;
  private final List<Target> targets;
  private final List<Socket> open = new CopyOnWriteArrayList<>();
  private volatile int connections;
  // Connections up to this one deliver nothing, in neither direction.
  private volatile int silent;

  private record Target(String host, int port) {}

  private Forwarder(InetSocketAddress at, List<String> urls) throws IOException {
    targets = urls.stream().map(Forwarder::parsed).toList();
    listening = new ServerSocket();
    listening.bind(at);
    start(this::accept);
  }

  static Forwarder to(String... urls) throws IOException {
    return new Forwarder(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), List.of(urls));
  }

  /** At the same port as its server, on another address of this machine. */
  static Forwarder at(String host, String url) throws IOException {
    return new Forwarder(new InetSocketAddress(host, parsed(url).port), List.of(url));
  }

  String url() {
    return "grpc://localhost:" + listening.getLocalPort();
  }

  int connections() {
    return connections;
  }

  /** From now on nothing gets through on the connections that there are. */
  void silence() {
    silent = connections;
  }

  /** Ends the connections that there are. */
  void cut() throws IOException {
    for (Socket each : open) {
      each.close();
    }
  }

  @Override
  public void close() throws IOException {
    listening.close();
    cut();
  }

  private void accept() throws IOException {
    while (true) {
      Socket client = listening.accept();
      Target target = targets.get(Math.min(connections, targets.size() - 1));
      int number = ++connections;
      Socket server = new Socket(target.host, target.port);
      open.addAll(List.of(client, server));
      start(() -> pump(client, server, number));
      start(() -> pump(server, client, number));
    }
  }

  private void pump(Socket from, Socket to, int number) throws IOException {
    try (from;
        to) {
      InputStream in = from.getInputStream();
      OutputStream out = to.getOutputStream();
      byte[] buffer = new byte[65_536];
      for (int read = in.read(buffer); read >= 0; read = in.read(buffer)) {
        if (number > silent) {
          out.write(buffer, 0, read);
        }
      }
    }
  }

  private interface Work {
    void run() throws IOException;
  }

  private void start(Work work) {
    Thread thread =
        new Thread(
            () -> {
              try {
                work.run();
              } catch (IOException error) {
                // One side has closed.
              }
            });
    thread.setDaemon(true);
    thread.start();
  }

  private static Target parsed(String url) {
    URI found = URI.create(url);
    return new Target(found.getHost(), found.getPort());
  }
}
