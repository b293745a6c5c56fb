"""From text to tokens, syntax trees and diagnostics."""
