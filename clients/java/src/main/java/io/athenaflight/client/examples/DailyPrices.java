package io.athenaflight.client.examples;

import io.athenaflight.client.BatchStream;
import io.athenaflight.client.FlightDataClient;
import java.time.LocalDate;
import java.util.Map;
import org.apache.arrow.vector.DateDayVector;
import org.apache.arrow.vector.Float4Vector;
import org.apache.arrow.vector.VectorSchemaRoot;

/** Prints the daily prices of a stock: {@code DailyPrices grpc://localhost:8815 AAPL 2010-01-04 2010-01-29}. */
public final class DailyPrices {
  private DailyPrices() {}

  public static void main(String[] args) {
    Map<String, Object> params =
        Map.of("ticker", args[1], "start_date", LocalDate.parse(args[2]), "end_date", LocalDate.parse(args[3]));
    try (FlightDataClient client = FlightDataClient.connect(args[0]);
        BatchStream prices = client.stream("daily_prices", params)) {
      for (VectorSchemaRoot batch : prices) {
        DateDayVector days = (DateDayVector) batch.getVector("trade_date");
        Float4Vector closes = (Float4Vector) batch.getVector("close");
        for (int row = 0; row < batch.getRowCount(); row++) {
          System.out.println(LocalDate.ofEpochDay(days.get(row)) + "  " + closes.getObject(row));
        }
      }
    }
  }
}
