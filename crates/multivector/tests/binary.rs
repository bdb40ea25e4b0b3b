//! The wire form: fixed bytes, round trips, refusals, and no panic on any message.

mod strategies;

use multivector::binary::receive;
use multivector::{Corrupt, ElementType, Error, Shape, View, encode};
use proptest::prelude::*;
use strategies::{element, print, read, rows, send};

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn what_is_sent_is_received_as_the_same_bytes((shape, values) in rows(), element in element()) {
        let bytes = encode(&values, shape, element, &mut || ()).unwrap();
        let sent = send(View::parse(&bytes).unwrap()).unwrap();
        prop_assert_eq!(receive(&sent, &mut || ()).unwrap(), bytes);
    }

    /// Whatever is received is sound and canonical: it can be printed, and reads back as itself.
    #[test]
    fn changed_messages_are_refused_or_received_soundly((shape, values) in rows(), element in element(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in 0usize..3) {
        let bytes = encode(&values, shape, element, &mut || ()).unwrap();
        let mut message = send(View::parse(&bytes).unwrap()).unwrap();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        message.truncate(message.len() - cut);
        if let Ok(received) = receive(&message, &mut || ()) {
            let view = View::parse(&received).unwrap();
            prop_assert_eq!(read(&print(view).unwrap()).unwrap(), received);
        }
    }

    #[test]
    fn random_messages_never_panic(message in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = receive(&message, &mut || ());
    }
}

#[test]
fn the_form_is_frozen() {
    let bytes_of = |element| {
        let bytes = encode(&[1.0, -2.0], Shape::new(1, 2).unwrap(), element, &mut || ()).unwrap();
        send(View::parse(&bytes).unwrap()).unwrap()
    };
    let header = |element| [1, element, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1];
    assert_eq!(
        bytes_of(ElementType::F32),
        [&header(1)[..], &[0x3F, 0x80, 0, 0, 0xC0, 0, 0, 0]].concat()
    );
    assert_eq!(
        bytes_of(ElementType::F16),
        [&header(2)[..], &[0x3C, 0, 0xC0, 0]].concat()
    );
    let scale = (2.0f32 / 127.0).to_be_bytes();
    assert_eq!(
        bytes_of(ElementType::Int8),
        [&header(3)[..], &scale, &[192, 1]].concat()
    );
}

#[test]
fn messages_of_another_form_are_refused() {
    let good = {
        let bytes = encode(
            &[1.0],
            Shape::new(1, 1).unwrap(),
            ElementType::F32,
            &mut || (),
        )
        .unwrap();
        send(View::parse(&bytes).unwrap()).unwrap()
    };
    let with = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        receive(&message, &mut || ()).unwrap_err()
    };
    let short = Corrupt::Truncated { len: 4, header: 12 };
    assert_eq!(receive(&good[..4], &mut || ()), Err(Error::Binary(short)));
    assert_eq!(with(0, 2), Error::Binary(Corrupt::Version { version: 2 }));
    assert_eq!(with(1, 9), Error::Binary(Corrupt::ElementType { code: 9 }));
    assert_eq!(with(3, 1), Error::Binary(Corrupt::Reserved));
    assert_eq!(with(7, 0), Error::ZeroDim);
    assert_eq!(with(6, 255), Error::TooManyDims { dim: 65_281 });
    assert_eq!(with(11, 0), Error::Empty);
    assert_eq!(with(9, 1), Error::TooManyTokens { tokens: 65_537 });
    let length = Corrupt::Length {
        len: 16,
        expected: 20,
    };
    assert_eq!(with(11, 2), Error::Binary(length));
    let nan = [&good[..12], &f32::NAN.to_be_bytes()].concat();
    let error = receive(&nan, &mut || ()).unwrap_err();
    assert_eq!(error, Error::Binary(Corrupt::Value { token: 0 }));
    assert_eq!(
        error.to_string(),
        "not the binary form of a multivector: a stored number of token 1 is none that is ever written"
    );
    // A gigabyte is refused by its header.
    let huge = [1, 1, 0, 0, 0, 0, 62, 128, 0, 0, 128, 0];
    assert!(matches!(
        receive(&huge, &mut || ()),
        Err(Error::TooLarge {
            bytes: 2_097_152_012,
            ..
        })
    ));
    // So is what decoded would be one, although its bits are 66 MB: nobody could read it.
    let bits = [1, 4, 0, 0, 0, 0, 62, 128, 0, 0, 128, 0];
    assert!(matches!(
        receive(&bits, &mut || ()),
        Err(Error::TooLarge {
            bytes: 2_097_152_000,
            ..
        })
    ));
}

#[test]
fn numbers_that_are_not_canonical_are_received_as_what_they_stand_for() {
    let header = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let received = receive(
        &[&header[..], &(-0.0f32).to_be_bytes()].concat(),
        &mut || (),
    )
    .unwrap();
    assert_eq!(View::parse(&received).unwrap().payload_bytes(), [0; 4]);
    // A client's own scale: 64 × 2.0 = 128 is stored as the largest code.
    let header = [1, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let received = receive(
        &[&header[..], &2.0f32.to_be_bytes(), &[192]].concat(),
        &mut || (),
    )
    .unwrap();
    let view = View::parse(&received).unwrap();
    assert_eq!(view.payload_bytes()[4], 255);
    assert_eq!(*view.values(&mut || ()).unwrap(), [128.0]);
}
