package org.tensorflow.lite;

/** What LiteRT's Java interpreter asks of a delegate. The real one lies in Google's Maven repository, which these tests can do without. */
public interface Delegate extends java.io.Closeable {
  long getNativeHandle();

  @Override
  default void close() {}
}
