package org.tflitesmart;

import java.util.LinkedHashMap;
import java.util.Map;
import org.tensorflow.lite.Delegate;

/**
 * Runs models that tflite_smart has compressed: their weights stay compressed in memory, everything else runs as before.
 *
 * <pre>{@code
 * try (SmartDelegate delegate = new SmartDelegate();
 *     Interpreter interpreter = new Interpreter(model, new Interpreter.Options().addDelegate(delegate))) {
 *   interpreter.run(input, output);
 * }
 * }</pre>
 *
 * <p>The delegate must stay open as long as an interpreter uses it, and may serve several. For the LiteRT runtime that is packed into the app, not for the one
 * of Google Play services, which takes no delegates from outside. May be created and closed on any thread.
 */
public final class SmartDelegate implements Delegate {

  /** What the delegate is told; everything has a default. */
  public static final class Options {
    private final Map<String, String> values = new LinkedHashMap<>();

    /** Threads for one run, 1 to 256. Default: as many as the interpreter's. */
    public Options setNumThreads(int numThreads) {
      return set("num_threads", Integer.toString(numThreads));
    }

    /** Any other option of the delegate, as the other doors take them: key and value in text. */
    public Options set(String key, String value) {
      values.put(key, value);
      return this;
    }
  }

  static {
    System.loadLibrary("tflite_smart_jni");
  }

  private long handle;

  public SmartDelegate() {
    this(new Options());
  }

  /** @throws IllegalArgumentException for an option that is unknown or out of its range; the message says what is allowed */
  public SmartDelegate(Options options) {
    handle = create(options.values.keySet().toArray(new String[0]), options.values.values().toArray(new String[0]));
  }

  /** Version of the native library, "major.minor.patch". */
  public static native String version();

  /** @throws IllegalStateException after close() */
  @Override
  public synchronized long getNativeHandle() {
    if (handle == 0) {
      throw new IllegalStateException("SmartDelegate: it must be open. Received: one that was closed. Close it after the interpreter.");
    }
    return handle;
  }

  /** Frees the native delegate; a second call does nothing. Only after the interpreters that use it were closed. */
  @Override
  public synchronized void close() {
    if (handle != 0) {
      destroy(handle);
      handle = 0;
    }
  }

  private static native long create(String[] keys, String[] values);

  private static native void destroy(long handle);
}
