//! Answers many in waves: while the last ones are being answered, the first ones are here again, and the broker has begun
//! with the next batch. All at once, nobody would be heard before all have their answers.

use tokio::task::yield_now;

/// In so many parts.
const WAVES: usize = 8;

/// Does `answer` for each of them; after each wave others have their turn.
pub(super) async fn in_waves<T>(all: Vec<T>, mut answer: impl FnMut(T)) {
    let wave = all.len().div_ceil(WAVES);
    for (number, one) in (1..).zip(all) {
        answer(one);
        if number % wave == 0 {
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_after_each_wave() {
        let answered = Arc::new(AtomicUsize::new(0));
        let looking = tokio::spawn({
            let answered = answered.clone();
            async move {
                let mut seen = vec![];
                while answered.load(Relaxed) < 20 {
                    seen.push(answered.load(Relaxed));
                    yield_now().await;
                }
                seen
            }
        });
        in_waves((1..=20).collect(), |number| answered.store(number, Relaxed)).await;
        assert_eq!(looking.await.unwrap(), [3, 6, 9, 12, 15, 18]);
    }

    #[tokio::test]
    async fn few_are_answered_one_by_one_and_nobody_is_left_out() {
        let mut answered = vec![];
        in_waves(vec![1, 2, 3], |one| answered.push(one)).await;
        in_waves(Vec::<i32>::new(), |one| answered.push(one)).await;
        assert_eq!(answered, [1, 2, 3]);
    }
}
