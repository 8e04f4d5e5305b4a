//! The bytes that processes share, frozen: numbers and `repr(C)` structs without behaviour.
//!
//! Every constant here is in `docs/layout.md` with the same number, and a test compares the two. A change is a
//! new [`header::LAYOUT_VERSION`].

pub(crate) mod bell;
pub(crate) mod board;
pub(crate) mod cursor;
pub(crate) mod header;
pub(crate) mod owner;
pub(crate) mod pool;
pub(crate) mod region;
pub(crate) mod ring;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{bell, board, cursor, header, pool, region, ring};

    const PAGE: &str = include_str!("../../docs/layout.md");

    fn documented(name: &str, value: u64) {
        let row = format!("| `{name}` | {value} |");
        assert!(PAGE.contains(&row), "docs/layout.md has no row {row}");
    }

    macro_rules! constants {
        ($module:ident: $($name:ident)*) => { $(documented(stringify!($name), $module::$name as u64);)* };
    }

    #[test]
    fn the_page_has_a_records_words() {
        use super::region::record::{GENERATION, KIND, SHARES, SINCE, TICKET, WAITING, WHO};
        let words = [
            ("GENERATION", GENERATION),
            ("WHO", WHO),
            ("SINCE", SINCE),
            ("KIND", KIND),
            ("WAITING", WAITING),
            ("TICKET", TICKET),
            ("SHARES", SHARES),
        ];
        words.iter().for_each(|(name, offset)| documented(name, *offset as u64));
    }

    macro_rules! offsets {
        ($module:ident::$name:ident: $($field:ident)*) => {
            $(documented(
                concat!(stringify!($name), ".", stringify!($field)),
                std::mem::offset_of!($module::$name, $field) as u64,
            );)*
        };
    }

    #[test]
    fn the_page_has_these_numbers() {
        constants!(header: MAGIC LAYOUT_VERSION HEADER_BYTES KIND_RING KIND_POOL KIND_CURSOR KIND_BELL KIND_BOARD KIND_REGION);
        constants!(ring: BLOCKED_OFFSET TERMS_OFFSET UNASSIGNED_OFFSET TERMS_FENCED TERMS_TAKEN_BACK TERMS_RENDEZVOUS SLOTS_OFFSET STRIDE_ALIGN SLOTS_MIN SLOTS_MAX RING_BYTES_TARGET POOLED_SLOTS STRIDE_MAX INLINE_PAYLOAD_OFFSET BODY_PAYLOAD_OFFSET INLINE_BYTES_MAX BODY_BYTES_MAX LAP_SHIFT KIND_SHIFT KIND_MASK LENGTH_MASK SLOT_BARE SLOT_AGAIN SLOT_UNREADABLE LENGTH_WRITING LENGTH_WITHDRAWN LENGTH_WITHDRAWING SLOT_INLINE SLOT_BODY SLOT_POOLED);
        constants!(pool: CHUNKS_OFFSET CHUNK_ALIGN CHUNKS_MAX);
        constants!(cursor: CURSOR_LINE_BYTES CURSOR_PLACES PINS_OFFSET PINS_MAX NOTES_MAX NOTE_MASK NOTE_SHIFT NOTE_ACKNOWLEDGED NOTE_RETURNED PIN_FREE CURSOR_UNSET CURSOR_GONE);
        constants!(bell: BELL_BYTES BELL_LINE_BYTES BELL_LINES SLEEPERS_WORDS SLEEPERS_MAX ARMED_MODE_MASK ARMED_GENERATION_SHIFT MODE_AWAKE MODE_FUTEX MODE_EVENT MODE_OWN_EVENT);
        constants!(board: BOARD_LINE_BYTES BOARD_PLACES BOARD_SUMMARY_OFFSET BOARD_GROUP BOARD_SECTION_ALIGN SIGNALS_IN_LINE SIGNAL_IDS_MAX TABLE_CELLS_MAX TABLE_KEY_BYTES_MAX TABLE_VALUE_BYTES_MAX CELL_ALIGN CELL_KEY_OFFSET CELL_THERE CELL_BUFFER CELL_VERSION_SHIFT INDEX_TAG_SHIFT INDEX_SLOTS_MIN HASH_BASIS HASH_PRIME);
        constants!(region: REGION_HEADER_OFFSET IDENTITY_OFFSET IDENTITY_BYTES_MAX REGION_ALIGN RECORD_BYTES SEATS_MAX SHARES SHARE_PLACE_SHIFT RESERVE_BYTES_MAX OPENING_BYTE REGION_READY SEAT_PROCESS SEAT_THREAD SEAT_LEFT);
        offsets!(region::RegionHeader: seats identity_bytes records_offset data_offset reserve_bytes ready used);
        offsets!(header::Header: magic version kind bytes);
        offsets!(ring::SlotHeader: word segment chunk length);
        offsets!(cursor::CursorLine: cursor pins_used lost returned left taken asked);
        offsets!(board::BoardLine: whole counters moved);
        offsets!(bell::SleeperLine: counter armed);
    }
}
